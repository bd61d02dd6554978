#include "dist/local_process.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace halftone {
namespace {

struct ProcessState {
  char state = '?';
  uint64_t started = 0;
};

// Fields 3 and 22 of /proc/ID/stat; the name before them may hold spaces and brackets.
std::optional<ProcessState> state_of(int64_t id) {
  std::ifstream file("/proc/" + std::to_string(id) + "/stat");
  std::string line;
  if (!std::getline(file, line) || line.rfind(')') == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  ProcessState found;
  fields >> found.state;
  constexpr int kBetween = 18;
  std::string skipped;
  for (int i = 0; i < kBetween; ++i) fields >> skipped;
  if (!(fields >> found.started)) return std::nullopt;
  return found;
}

}  // namespace

LocalProcess LocalProcess::of_this_one() {
  LocalProcess mine;
  mine.id = ::getpid();
  if (const std::optional<ProcessState> state = state_of(mine.id)) mine.started = state->started;
  struct stat info {};
  if (::stat("/proc/self/ns/pid", &info) == 0) mine.numbering = info.st_ino;
  return mine;
}

bool LocalProcess::ended() const {
  const std::optional<ProcessState> now = state_of(id);
  return !now || now->started != started || now->state == 'Z' || now->state == 'X';
}

}  // namespace halftone
