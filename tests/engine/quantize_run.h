#pragma once

#include <gtest/gtest.h>

#include "engine/quantize.h"
#include "model/family.h"
#include "tests/engine/test_cluster.h"

namespace halftone::test {

inline Recipe preset_with_cache(const std::string& format, const std::string& kv_cache) {
  Recipe recipe = load_preset(format, "ptq");
  add_kv_cache(recipe, kv_cache);
  return recipe;
}

// Quantizes to out/<recipe>, all recipes in one pass. Collective.
inline QuantizeResult quantize_to(const fs::path& out, const Checkpoint& checkpoint,
                                  const std::vector<Recipe>& recipes,
                                  const std::vector<Batch>& batches, TestCluster& cluster,
                                  int64_t max_shard_bytes = int64_t{1} << 40,
                                  int64_t stage_limit = INT64_MAX) {
  if (cluster.rank() == 0) fs::create_directories(out);
  cluster.ranks().barrier();
  const std::unique_ptr<Model> model = make_model(checkpoint);
  const SourceLayout source(checkpoint, *model);
  std::vector<Target> targets;
  for (const Recipe& recipe : recipes) {
    targets.push_back(make_target(source, *model, recipe, out / recipe.name, max_shard_bytes));
  }
  QuantizeOptions options;
  options.compute_dtype = model_dtype(checkpoint);
  options.show_progress = false;
  options.stage_limit = stage_limit;
  options.out = out;
  options.overwrite = true;
  return quantize(source, *model, targets, batches, nullptr, options, cluster.get());
}

}  // namespace halftone::test
