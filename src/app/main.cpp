#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "app/commands.h"
#include "core/error.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "core/text_distance.h"

namespace {

using namespace halftone;

void print_help(std::FILE* stream) {
  std::string text =
      "halftone quantizes large language models after training.\n\nUsage: halftone COMMAND "
      "[options]"
      "\n\n";
  for (const Command& command : commands()) {
    text +=
        "  " + command.name + std::string(12 - command.name.size(), ' ') + command.summary + "\n";
  }
  text += "\nhalftone COMMAND --help lists a command's options.\n";
  std::fputs(text.c_str(), stream);
}

const Command& command_named(const std::string& name) {
  std::vector<std::string> known;
  for (const Command& command : commands()) {
    if (command.name == name) return command;
    known.push_back(command.name);
  }
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
  throw UsageError(
      concat("unknown command '", name, "'", nearest_hint(name, known), "; commands: ", list));
}

// Most errors are found by all ranks at once; rank 0 shall be the one that says so.
void let_rank_0_speak_first(const World* world) {
  if (world != nullptr && world->rank() > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
  }
}

int fail(Error error, const World* world) {
  if (world != nullptr && world->size() > 1) error.set_rank(world->rank());
  restore_stop_signals();  // there is nothing to save
  let_rank_0_speak_first(world);
  log_error(error.what());
  const int code = static_cast<int>(error.code());
  // A failed call says what broke; a moment later the watchdog says who is missing.
  if (error.code() == ExitCode::kPeer) std::this_thread::sleep_for(std::chrono::seconds(1));
  if (world != nullptr) world->abort(code);
  return code;
}

int run_command(const Command& command, const std::vector<std::string>& arguments,
                const World* world) {
  try {
    Options options = command.options();
    if (!options.parse(arguments)) {
      if (world == nullptr || world->rank() == 0) std::fputs(options.help().c_str(), stdout);
      return 0;
    }
    command.run(options, world);
    return 0;
  } catch (const Error& error) {
    return fail(error, world);
  } catch (const std::bad_alloc&) {
    return fail(ResourceError("out of memory: use a smaller --batch-size or more ranks"), world);
  } catch (const std::exception& error) {
    return fail(Error(ExitCode::kInput, concat("unexpected: ", error.what())), world);
  }
}

}  // namespace

int main(int argc, char** argv) {
  // Batches run concurrently, each on one thread; so does everything else that LibTorch does.
  at::set_num_threads(1);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "help") {
    print_help(arguments.empty() ? stderr : stdout);
    return arguments.empty() ? static_cast<int>(ExitCode::kUsage) : 0;
  }
  if (arguments[0] == "--version") {
    std::puts("halftone " HALFTONE_VERSION);
    return 0;
  }
  const Command* command = nullptr;
  try {
    command = &command_named(arguments[0]);
  } catch (const Error& error) {
    log_error(error.what());
    return static_cast<int>(error.code());
  }
  arguments.erase(arguments.begin());
  if (!command->distributed) return run_command(*command, arguments, nullptr);
  std::optional<World> world;
  try {
    world.emplace(&argc, &argv);
  } catch (const Error& error) {
    log_error(error.what());
    return static_cast<int>(error.code());
  }
  set_up_log(LogLevel::kInfo, world->rank(), world->size());
  return run_command(*command, arguments, &*world);
}
