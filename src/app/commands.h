#pragma once

#include <string>
#include <vector>

#include "app/options.h"
#include "dist/world.h"

namespace halftone {

// A subcommand: one file, one line in commands.cpp.
struct Command {
  std::string name;
  std::string summary;
  bool distributed;  // runs on all ranks of an MPI world; others run on one process alone
  Options (*options)();
  // Throws Error; returns normally when done. `world` is null for commands that are not
  // distributed.
  void (*run)(const Options& options, const World* world);
};

const std::vector<Command>& commands();

Command quantize_command();
Command autoquantize_command();
Command plan_command();
Command export_command();
Command evaluate_command();
Command verify_command();
Command compare_command();
Command tokenize_command();
Command inspect_command();
Command formats_command();
Command models_command();
Command serve_command();
Command synthesize_command();

}  // namespace halftone
