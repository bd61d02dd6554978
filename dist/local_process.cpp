#include "dist/local_process.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace halftone {
namespace {

struct ProcessState {
  char state = '?';
  int64_t parent = 0;
  uint64_t started = 0;
};

// Fields 3, 4 and 22 of /proc/ID/stat; the name before them may hold spaces and brackets.
std::optional<ProcessState> state_of(int64_t id) {
  std::ifstream file("/proc/" + std::to_string(id) + "/stat");
  std::string line;
  if (!std::getline(file, line) || line.rfind(')') == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  ProcessState found;
  fields >> found.state >> found.parent;
  constexpr int kBetween = 17;
  std::string skipped;
  for (int i = 0; i < kBetween; ++i) fields >> skipped;
  if (!(fields >> found.started)) return std::nullopt;
  return found;
}

LocalProcess process_of(int64_t id, uint64_t started) {
  LocalProcess process{id, started, 0};
  struct stat info {};
  if (::stat("/proc/self/ns/pid", &info) == 0) process.numbering = info.st_ino;
  return process;
}

// "NAME=value" of this process where it is a rank; what started it is none, and has no such thing.
std::string rank_variable() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* value = std::getenv(name)) return std::string(name) + "=" + value;
  }
  return "";
}

// False also for what belongs to another user and cannot be read.
bool was_started_with(int64_t id, std::string_view variable) {
  std::ifstream file("/proc/" + std::to_string(id) + "/environ");
  for (std::string each; std::getline(file, each, '\0');) {
    if (each == variable) return true;
  }
  return false;
}

}  // namespace

LocalProcess LocalProcess::of_this_one() {
  const int64_t id = ::getpid();
  const std::optional<ProcessState> state = state_of(id);
  return process_of(id, state ? state->started : 0);
}

std::optional<LocalProcess> LocalProcess::launcher() {
  const std::string variable = rank_variable();
  if (variable.empty()) return std::nullopt;
  int64_t id = ::getppid();
  while (id > 1) {
    const std::optional<ProcessState> state = state_of(id);
    if (!state) return std::nullopt;
    if (!was_started_with(id, variable)) return process_of(id, state->started);
    id = state->parent;
  }
  return std::nullopt;
}

bool LocalProcess::ended() const {
  const std::optional<ProcessState> now = state_of(id);
  return !now || now->started != started || now->state == 'Z' || now->state == 'X';
}

}  // namespace halftone
