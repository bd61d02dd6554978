#pragma once

#include <string>
#include <vector>

#include "engine/memory_budget.h"
#include "engine/memory_model.h"

namespace halftone {

// Changes of the options under which the same work fits the budget, each the smallest of its kind,
// found by trying: "--batch-size 4", "at least 8 ranks", ... Those that change no result come
// first. Empty: none does.
std::vector<std::string> changes_that_fit(const MemoryInputs& inputs, const MemoryBudget& budget);

// Rates of one host, of its network and of one rank, per second.
struct Rates {
  double read = 2e9;  // bytes
  double write = 1e9;
  double network = 10e9;
  double memory = 10e9;
  double flops = 1e12;
};

struct PlannedPhase {
  std::string name;  // "load", "forward", ...
  double seconds = 0.0;
  int64_t disk_bytes = 0;     // of all ranks
  int64_t network_bytes = 0;  // of one rank
};

// How long the run takes, phase by phase, as if nothing overlapped. `output_bytes`: of all targets;
// hosts: over which the ranks are spread evenly. The most of what goes over MPI or NCCL is counted.
std::vector<PlannedPhase> plan_phases(const MemoryInputs& inputs, const Rates& rates, int hosts,
                                      int64_t output_bytes);

// Of the statistics of all stages, as the store keeps them.
int64_t statistics_bytes(const MemoryInputs& inputs);
// Bytes of the hidden states of all batches, once.
int64_t hidden_state_bytes(const MemoryInputs& inputs);

// ResourceError that says what is needed, what there is, and what would help.
void require_fits(const MemoryInputs& inputs, const MemoryPlan& plan, const MemoryBudget& budget);

}  // namespace halftone
