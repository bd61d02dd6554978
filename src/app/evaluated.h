#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "app/options.h"
#include "app/run_setup.h"
#include "engine/weight_source.h"
#include "formats/recipe.h"

namespace halftone {

// A model that is measured or served: the original, an exported checkpoint or, with a recipe, one
// that is fake-quantized in memory.

// --format, --recipe, --strict, --kv-cache and the calibration data.
void add_fake_quantization_options(Options& options);
// What these ask for, if anything; UsageError where they exclude each other.
std::optional<Recipe> fake_quantization_recipe(const Options& options);

// The model and where its weights come from. Everything is collective.
struct Evaluated {
  Checkpoint checkpoint;
  std::unique_ptr<Model> model;
  DType compute = DType::kBF16;
  int64_t limit = 0;                   // plan_loads
  std::optional<SourceLayout> layout;  // of an original
  Residency residency = Residency::kStream;
  std::unique_ptr<HeldWeights> held;  // null with stream
  std::unique_ptr<WeightSource> source;

  // Calibrates where there is a recipe.
  Evaluated(const Options& options, const std::optional<Recipe>& recipe, const RunSetup& setup);

 private:
  void calibrate(const Options& options, const Recipe& recipe, const std::vector<LoadStep>& steps,
                 const RunSetup& setup);
};

}  // namespace halftone
