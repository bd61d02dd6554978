#pragma once

#include <string>
#include <vector>

#include "formats/codec.h"
#include "formats/kv_cache.h"
#include "formats/recipe.h"
#include "model/model.h"

namespace halftone {

// What a recipe means for a model: the codec of every linear and the cache format of every
// attention, in the order of the stages' lists.
struct StagePlan {
  std::vector<const Codec*> codecs;  // null: not quantized
  std::vector<bool> input_quantized;
  std::vector<KvFormat> kv;

  bool needs_inputs() const;  // some linear's input amax
  bool needs_key_value() const;
};

struct TargetPlan {
  Recipe recipe;
  std::vector<StagePlan> stages;
};

// Everything that can be refused without reading a weight is refused here: formats that no codec
// stores, shapes that do not divide, fused linears of different formats, a tied head, a recipe that
// quantizes nothing.
TargetPlan plan_target(const Model& model, const Recipe& recipe);

}  // namespace halftone
