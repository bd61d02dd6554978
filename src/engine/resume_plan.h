#pragma once

#include <cstdint>
#include <vector>

#include "model/model.h"

namespace halftone {

// What a run does with a stage that an interrupted run may have finished.
enum class StageAction : uint8_t {
  kSkip,    // not even loaded
  kReplay,  // computed, so that a later stage gets its inputs; nothing of it is kept
  kRun,
};

// How a run goes on. A stage between `restored_at` and the end begins with the states that were
// saved; everything before it comes from the start of the model.
struct ResumePlan {
  std::vector<StageAction> actions;  // per stage; empty: all are run
  size_t restored_at = SIZE_MAX;
  std::vector<States> states = {};  // of this rank's batches, in order

  StageAction action(size_t stage) const {
    return actions.empty() ? StageAction::kRun : actions[stage];
  }
};

// `finished`: stages whose results are kept. `saved`: the stage whose inputs are kept; 0: none.
// `computed`: one past the last stage that needs inputs. Without `can_replay` a finished stage that
// later ones need is run once more (its served form is not known without its solution).
ResumePlan plan_resume(const std::vector<bool>& finished, size_t saved, size_t computed,
                       bool can_replay);

}  // namespace halftone
