#include "core/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "core/log.h"

namespace halftone {
namespace {

constexpr int kBarWidth = 24;

std::string duration_text(double seconds) {
  const int64_t whole = std::lround(seconds);
  char text[32];
  std::snprintf(text, sizeof text, "%lld:%02lld", static_cast<long long>(whole / 60),
                static_cast<long long>(whole % 60));
  return text;
}

}  // namespace

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Progress::Progress(std::string title, int64_t steps, bool enabled)
    : title_(std::move(title)),
      steps_(steps),
      enabled_(enabled && steps > 0),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (drawn_) std::fputc('\n', stderr);
}

void Progress::step(int64_t done, const std::string& detail, int64_t bytes) {
  if (!enabled_) return;
  const double seconds = seconds_since(start_);
  const double left =
      done > 0 ? seconds / static_cast<double>(done) * static_cast<double>(steps_ - done) : 0;
  char figures[96];
  std::snprintf(figures, sizeof figures, "%.2f GB/s, %s left",
                static_cast<double>(bytes) / 1e9 / (seconds > 0 ? seconds : 1),
                duration_text(left).c_str());
  if (terminal_) {
    const auto filled = static_cast<size_t>(kBarWidth * done / steps_);
    const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
    std::fprintf(stderr, "\r\033[K%s [%s] %lld/%lld %s, %s", title_.c_str(), bar.c_str(),
                 static_cast<long long>(done), static_cast<long long>(steps_), detail.c_str(),
                 figures);
    std::fflush(stderr);
    drawn_ = true;
  } else if (done == steps_ || done <= 1 || seconds_since(last_line_) >= 1.0) {
    last_line_ = std::chrono::steady_clock::now();
    log_info(title_, ": ", done, "/", steps_, " ", detail, ", ", figures);
  }
}

}  // namespace halftone
