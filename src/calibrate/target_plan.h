#pragma once

#include <string>
#include <vector>

#include "formats/kv_cache.h"
#include "formats/linear_format.h"
#include "formats/recipe.h"
#include "model/model.h"

namespace halftone {

// What a recipe means for a model: the format of every linear and of every attention's cache, in
// the order of the stages' lists.
struct StagePlan {
  std::vector<LinearFormat> linears;
  std::vector<KvFormat> kv;

  bool needs_inputs() const;  // some linear's input amax
  bool needs_key_value() const;
  bool any_quantized() const;
};

struct TargetPlan {
  Recipe recipe;
  std::vector<StagePlan> stages;
  // Per stage and linear: under what name a calibration store holds the results of searches; empty:
  // the recipe's.
  std::vector<std::vector<std::string>> searched_as = {};
};

// Everything that can be refused without reading a weight is refused here: formats that no codec
// stores, algorithms that do not go with them, shapes that do not divide, fused linears of
// different formats, a tied head, a recipe that quantizes nothing.
TargetPlan plan_target(const Model& model, const Recipe& recipe);

}  // namespace halftone
