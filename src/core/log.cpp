#include "core/log.h"

// The only file that includes spdlog: the torch wheel's headers bring an fmt of their own.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace halftone {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = spdlog::stderr_color_mt("halftone");
    made->set_pattern("%H:%M:%S %^%-7l%$ %v");
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

}  // namespace

void set_up_log(LogLevel level, int rank, int ranks) {
  logger().set_level(spdlog_level(level));
  if (ranks > 1) logger().set_pattern("%H:%M:%S rank " + std::to_string(rank) + " %^%-7l%$ %v");
}

void log_line(LogLevel level, const std::string& text) {
  logger().log(spdlog_level(level), text);
}

bool log_enabled(LogLevel level) {
  return logger().should_log(spdlog_level(level));
}

}  // namespace halftone
