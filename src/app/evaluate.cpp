#include <cstdio>

#include "app/budgets.h"
#include "app/commands.h"
#include "app/data.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "engine/weight_source.h"
#include "evaluate/tasks/logits.h"
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
  add_family_option(options);
  options.text("tasks", "NAME", "perplexity", "what to measure: perplexity, logits");
  options.paths("data", "evaluation text (as --calib); default: an embedded text");
  options.integer("data-samples", 0, 0, 100'000'000, "use the first N samples, 0: all");
  options.integer("data-length", 512, 2, 10'000'000, "cut samples to N tokens");
  options.group("Logits");
  options.text("input", "X.safetensors", "", "input_ids, attention_mask, decoder_input_ids, ...");
  options.text("output", "Y.safetensors", "", "where the F32 logits go");
  options.flag("hidden", "also write hidden states and router choices");
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

std::unique_ptr<WeightSource> calibrated_source(const Options& options, const SourceLayout& source,
                                                Model& model, const Recipe& recipe, DType compute,
                                                const RunSetup& setup) {
  const TargetPlan plan = plan_target(model, recipe);
  const LoadedData data =
      load_data(options, data_request(options, "calib"), source.checkpoint(), model);
  const SolveContext context{source.dtype(), compute, numerics(options), setup.cluster(),
                             options.get_integer("expert-min-tokens")};
  CalibrationOptions calibration;
  calibration.compute_dtype = compute;
  calibration.count_padding = options.get_flag("count-padding");
  calibration.observed_experts = options.get_number("moe-calib-experts-ratio");
  calibration.stage_limit = stage_limit(options, setup.cluster());
  return make_fake_quant_source(
      source, model, plan, calibrate_model(source, model, plan, data.batches, calibration, context),
      context);
}

// A model to evaluate and where its weights come from.
struct Evaluated {
  Checkpoint checkpoint;
  std::unique_ptr<Model> model;
  std::optional<SourceLayout> layout;  // of an original
  std::unique_ptr<WeightSource> source;
  DType compute = DType::kBF16;

  Evaluated(const Options& options, const std::optional<Recipe>& recipe, const RunSetup& setup)
      : checkpoint(options.required("model")),
        model(make_model(checkpoint, options.get("family"))),
        compute(compute_dtype(options, model_dtype(checkpoint))) {
    if (is_quantized(checkpoint)) {
      if (recipe) {
        throw UsageError(concat("'", checkpoint.directory().string(),
                                "' is quantized already: leave out --format"));
      }
      source = make_exported_source(checkpoint, *model);
      return;
    }
    layout.emplace(checkpoint, *model);
    if (!recipe) {
      source = make_original_source(*layout);
      return;
    }
    check_rules(options, *model, *recipe, setup.speaks());
    source = calibrated_source(options, *layout, *model, *recipe, compute, setup);
  }
};

void run_logits(const Options& options, const RunSetup& setup, Evaluated& evaluated) {
  const LogitsOptions logits{evaluated.compute, options.get_flag("hidden"),
                             stage_limit(options, setup.cluster())};
  const std::string& output = options.required("output");
  evaluate_logits(evaluated.checkpoint, *evaluated.model, *evaluated.source,
                  options.required("input"), output, logits, setup.cluster());
  if (!setup.speaks()) return;
  if (options.get_flag("json")) {
    print_json({{"tasks", {{"logits", {{"output", output}}}}}});
  } else {
    std::printf("%s\n", output.c_str());
  }
}

void run_perplexity(const Options& options, const RunSetup& setup, Evaluated& evaluated) {
  const LoadedData data =
      load_data(options, data_request(options, "data"), evaluated.checkpoint, *evaluated.model);
  const Cluster& cluster = setup.cluster();
  const bool original =
      evaluated.layout.has_value() && !options.given("format") && !options.given("recipe");
  const MemoryPlan predicted =
      plan_evaluation(*evaluated.source, *evaluated.model, evaluated.compute, !original,
                      shape_of(data.batches), options, cluster);
  const PerplexityOptions perplexity{evaluated.compute, stage_limit(options, setup.cluster()),
                                     true};
  const Perplexity result = evaluate_perplexity(
      evaluated.checkpoint, *evaluated.model, *evaluated.source, data.batches, perplexity, cluster);
  const Json memory = evaluation_memory(predicted, cluster);
  if (!setup.speaks()) return;
  if (options.get_flag("json")) {
    print_json({{"tasks",
                 {{"perplexity",
                   {{"value", result.value}, {"nll", result.nll}, {"tokens", result.tokens}}}}},
                {"memory", memory}});
  } else {
    std::printf("perplexity %.6f (nll %.8f over %lld tokens)\n", result.value, result.nll,
                static_cast<long long>(result.tokens));
  }
}

void run(const Options& options, const World* world) {
  const std::string& task = options.get("tasks");
  if (task != "perplexity" && task != "logits") {
    throw UsageError(concat("unknown task '", task, "'",
                            nearest_hint(task, {"perplexity", "logits"}),
                            "; supported: perplexity, logits"));
  }
  if (task == "logits") {
    options.required("input");
    options.required("output");
  }
  const std::optional<Recipe> recipe = read_recipe(options);
  const RunSetup setup(options, *world);
  Evaluated evaluated(options, recipe, setup);
  if (task == "logits") {
    run_logits(options, setup, evaluated);
  } else {
    run_perplexity(options, setup, evaluated);
  }
}

}  // namespace

Command evaluate_command() {
  return {"evaluate", "perplexity of an original, fake-quantized or exported model", true, &options,
          &run};
}

}  // namespace halftone
