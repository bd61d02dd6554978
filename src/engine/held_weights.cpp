#include "engine/held_weights.h"

#include "kernels/check.h"

namespace halftone {

HeldWeights::Key HeldWeights::key_of(const LoadStep& step) {
  return {step.stage, step.part.expert_begin, step.part.expert_end};
}

const HeldStep* HeldWeights::find(const LoadStep& step) const {
  const auto found = steps_.find(key_of(step));
  return found == steps_.end() ? nullptr : &found->second;
}

void HeldWeights::keep(const LoadStep& step, HeldStep held) {
  const bool added = steps_.emplace(key_of(step), std::move(held)).second;
  check(added, "a step's weights are held once");
}

int64_t HeldWeights::bytes() const {
  int64_t sum = 0;
  for (const auto& [key, held] : steps_) sum += held.part.numel();
  return sum;
}

}  // namespace halftone
