#include "engine/resume_plan.h"

#include <algorithm>

#include "kernels/check.h"

namespace halftone {

ResumePlan plan_resume(const std::vector<bool>& finished, size_t saved, size_t computed,
                       bool can_replay) {
  check(saved <= finished.size(), "states are those of a stage");
  ResumePlan plan;
  plan.actions.assign(finished.size(), StageAction::kRun);
  // Backwards, once from the end to the saved stage and once from there to the start.
  bool inputs_wanted = false;
  for (size_t s = finished.size(); s-- > 0;) {
    if (finished[s]) {
      const StageAction again = can_replay ? StageAction::kReplay : StageAction::kRun;
      plan.actions[s] = inputs_wanted ? again : StageAction::kSkip;
    } else {
      inputs_wanted = inputs_wanted || s < computed;
    }
    if (s != saved || saved == 0) continue;
    if (inputs_wanted) plan.restored_at = saved;
    inputs_wanted = false;
  }
  return plan;
}

}  // namespace halftone
