#include "app/evaluated.h"

#include "app/data.h"
#include "app/quantize_run.h"
#include "core/error.h"
#include "core/log.h"
#include "model/family.h"

namespace halftone {
namespace {

void refuse_compressed(const Options& options, bool exported) {
  if (wanted_residency(options) != Residency::kCompressed) return;
  throw UsageError(concat(
      "--residency compressed holds weights that this run quantizes, ",
      exported ? "but an exported checkpoint's are quantized already: use --residency resident"
               : "but there is nothing to quantize: give --format, or use --residency resident"));
}

}  // namespace

void add_fake_quantization_options(Options& options) {
  options.group("Fake quantization");
  options.text("format", "NAME", "", "quantize in memory to this format before evaluating");
  options.text("recipe", "NAME|FILE.yaml", "", "the same with a recipe");
  options.flag("strict", "a rule of your recipe that matches nothing is an error");
  options.text("kv-cache", "NAME", "none", "KV cache format (halftone formats lists them)");
  add_calibration_options(options);
}

std::optional<Recipe> fake_quantization_recipe(const Options& options) {
  std::optional<Recipe> recipe;
  if (options.given("recipe") && options.given("format")) {
    throw UsageError("--format and --recipe exclude each other");
  }
  if (options.given("recipe")) recipe = load_recipe(options.get("recipe"));
  if (options.given("format")) recipe = load_preset(options.get("format"), "ptq");
  if (recipe) {
    add_kv_cache(*recipe, options.get("kv-cache"));
  } else if (options.get("kv-cache") != "none") {
    throw UsageError("--kv-cache needs --format or --recipe");
  }
  return recipe;
}

Evaluated::Evaluated(const Options& options, const std::optional<Recipe>& recipe,
                     const RunSetup& setup)
    : checkpoint(open_source(options)),
      model(make_model(checkpoint, options.get("family"))),
      compute(compute_dtype(options, model_dtype(checkpoint))),
      limit(stage_limit(options, setup.cluster())) {
  require_same_model(checkpoint, setup.cluster());
  const bool exported = is_export(checkpoint) && !(recipe && !is_quantized(checkpoint));
  if (exported && recipe) {
    throw UsageError(
        concat("'", checkpoint.directory().string(), "' is quantized already: leave out --format"));
  }
  if (!recipe) refuse_compressed(options, exported);
  if (exported) {
    source = make_exported_source(checkpoint, *model);
  } else {
    layout.emplace(checkpoint, *model);
    if (!recipe) source = make_original_source(*layout);
  }
  const std::vector<LoadStep> steps =
      plan_loads(source ? source->tensors() : layout->stages(), limit);
  residency = settle_residency(options, steps, recipe ? 2 : 1, setup);
  if (residency != Residency::kStream) {
    held = std::make_unique<HeldWeights>(residency == Residency::kResident);
  }
  if (recipe) calibrate(options, *recipe, steps, setup);
}

void Evaluated::calibrate(const Options& options, const Recipe& recipe,
                          const std::vector<LoadStep>& steps, const RunSetup& setup) {
  check_rules(options, *model, recipe, setup.speaks());
  const TargetPlan plan = plan_target(*model, recipe);
  const bool on_compressed = calibrates_on_compressed(options);
  if (residency == Residency::kCompressed) {
    check_compressible({&plan}, *model, steps, on_compressed);
  }
  const LoadedData data = load_data(options, data_request(options, "calib"), checkpoint, *model);
  const SolveContext context{layout->dtype(), compute, numerics(options), setup.cluster(),
                             options.get_integer("expert-min-tokens")};
  CalibrationOptions calibration;
  calibration.compute_dtype = compute;
  calibration.count_padding = options.get_flag("count-padding");
  calibration.observed_experts = options.get_number("moe-calib-experts-ratio");
  calibration.stage_limit = limit;
  std::unique_ptr<Compressor> compressor;
  if (residency == Residency::kCompressed) {
    compressor = std::make_unique<Compressor>(*model, plan, context, *held);
  } else {
    calibration.held = held.get();
  }
  if (on_compressed) observe_compressed(*compressor, calibration);
  std::vector<StageSolution> solutions =
      calibrate_model(*layout, *model, plan, data.batches, calibration, context, compressor.get());
  source = make_fake_quant_source(*layout, *model, plan, std::move(solutions), context,
                                  std::move(compressor));
}

}  // namespace halftone
