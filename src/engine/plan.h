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

// ResourceError that says what is needed, what there is, and what would help.
void require_fits(const MemoryInputs& inputs, const MemoryPlan& plan, const MemoryBudget& budget);

}  // namespace halftone
