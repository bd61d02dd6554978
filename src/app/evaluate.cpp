#include <cstdio>

#include "app/commands.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/weight_source.h"
#include "evaluate/tasks/perplexity.h"
#include "model/family.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone evaluate --model DIR --tasks perplexity [--data FILE ...] [options]",
                  "Measures a model: the original, an exported checkpoint, or, with --format or "
                  "--recipe,\nthe model fake-quantized in memory.");
  options.group("What");
  options.text("model", "DIR", "", "the checkpoint, original or exported");
  options.text("tasks", "NAME", "perplexity", "what to measure: perplexity");
  options.paths("data", "evaluation text (as --calib); default: an embedded text");
  options.integer("data-samples", 0, 0, 100'000'000, "use the first N samples, 0: all");
  options.integer("data-length", 512, 2, 10'000'000, "cut samples to N tokens");
  options.group("Fake quantization");
  options.text("format", "NAME", "", "quantize in memory to this format before evaluating");
  options.text("recipe", "NAME|FILE.yaml", "", "the same with a recipe");
  options.flag("strict", "a rule of your recipe that matches nothing is an error");
  options.text("kv-cache", "NAME", "none", "KV cache format (halftone formats lists them)");
  add_calibration_options(options);
  add_run_options(options);
  return options;
}

std::optional<Recipe> read_recipe(const Options& options) {
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

std::unique_ptr<WeightSource> calibrated_source(const Options& options,
                                                const Checkpoint& checkpoint, Model& model,
                                                const Recipe& recipe, DType compute,
                                                const Cluster& cluster) {
  const TargetPlan plan = plan_target(model, recipe);
  const LoadedData data =
      load_data(data_request(options, "calib", kCalibrationText), checkpoint.directory(),
                model.vocabulary(), model.max_positions());
  const std::vector<Batch> batches =
      make_batches(data.dataset.samples, batch_size(options, data.dataset), data.pad_id,
                   PadSide::kLeft, /*common_length=*/true);
  CalibrationOptions calibration;
  calibration.compute_dtype = compute;
  calibration.count_padding = options.get_flag("count-padding");
  return make_fake_quant_source(
      model, plan,
      calibrate_model(checkpoint, model, plan, batches, calibration, numerics(options), cluster),
      {model_dtype(checkpoint), compute, numerics(options), cluster});
}

void run(const Options& options, const World* world) {
  if (options.get("tasks") != "perplexity") {
    throw UsageError(concat("unknown task '", options.get("tasks"), "'; supported: perplexity"));
  }
  const std::optional<Recipe> recipe = read_recipe(options);
  const fs::path model_dir = options.required("model");
  const RunSetup setup(options, *world);
  const Checkpoint checkpoint(model_dir);
  const std::unique_ptr<Model> model = make_model(checkpoint);
  const bool exported = is_quantized(checkpoint);
  if (exported && recipe) {
    throw UsageError(concat("'", model_dir.string(), "' is quantized already: leave out --format"));
  }
  if (!exported) check_tensors(checkpoint, *model);

  const DType compute = compute_dtype(options, model_dtype(checkpoint));
  if (recipe) check_rules(options, *model, *recipe, setup.speaks());
  std::unique_ptr<WeightSource> source;
  if (exported) {
    source = make_exported_source(checkpoint, *model);
  } else if (recipe) {
    source = calibrated_source(options, checkpoint, *model, *recipe, compute, setup.cluster());
  } else {
    source = make_original_source(*model);
  }
  const LoadedData data = load_data(data_request(options, "data", kEvaluationText), model_dir,
                                    model->vocabulary(), model->max_positions());
  const std::vector<Batch> batches =
      make_batches(data.dataset.samples, batch_size(options, data.dataset), data.pad_id,
                   PadSide::kRight, /*common_length=*/false);
  const Perplexity result =
      evaluate_perplexity(checkpoint, *model, *source, batches, {compute, true}, setup.cluster());
  if (!setup.speaks()) return;
  if (options.get_flag("json")) {
    print_json({{"tasks",
                 {{"perplexity",
                   {{"value", result.value}, {"nll", result.nll}, {"tokens", result.tokens}}}}}});
  } else {
    std::printf("perplexity %.6f (nll %.8f over %lld tokens)\n", result.value, result.nll,
                static_cast<long long>(result.tokens));
  }
}

}  // namespace

Command evaluate_command() {
  return {"evaluate", "perplexity of an original, fake-quantized or exported model", true, &options,
          &run};
}

}  // namespace halftone
