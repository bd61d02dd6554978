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

// A model to evaluate and where its weights come from.
struct Evaluated {
  Checkpoint checkpoint;
  std::unique_ptr<Model> model;
  DType compute = DType::kBF16;
  int64_t limit = 0;                   // plan_loads
  std::optional<SourceLayout> layout;  // of an original
  Residency residency = Residency::kStream;
  std::unique_ptr<HeldWeights> held;  // null with stream
  std::unique_ptr<WeightSource> source;

  Evaluated(const Options& options, const std::optional<Recipe>& recipe, const RunSetup& setup)
      : checkpoint(options.required("model")),
        model(make_model(checkpoint, options.get("family"))),
        compute(compute_dtype(options, model_dtype(checkpoint))),
        limit(stage_limit(options, setup.cluster())) {
    require_same_model(checkpoint, setup.cluster());
    const bool exported = is_export(checkpoint) && !(recipe && !is_quantized(checkpoint));
    if (exported && recipe) {
      throw UsageError(concat("'", checkpoint.directory().string(),
                              "' is quantized already: leave out --format"));
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

 private:
  static void refuse_compressed(const Options& options, bool exported) {
    if (wanted_residency(options) != Residency::kCompressed) return;
    throw UsageError(concat(
        "--residency compressed holds weights that this run quantizes, ",
        exported ? "but an exported checkpoint's are quantized already: use --residency resident"
                 : "but there is nothing to quantize: give --format, or use --residency resident"));
  }

  void calibrate(const Options& options, const Recipe& recipe, const std::vector<LoadStep>& steps,
                 const RunSetup& setup) {
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
    std::vector<StageSolution> solutions = calibrate_model(*layout, *model, plan, data.batches,
                                                           calibration, context, compressor.get());
    source = make_fake_quant_source(*layout, *model, plan, std::move(solutions), context,
                                    std::move(compressor));
  }
};

// What a run says of the weights that it held. Collective.
Json residency_json(const Evaluated& evaluated, const Cluster& cluster) {
  int64_t bytes = evaluated.held ? evaluated.held->bytes() : 0;
  cluster.control.all_reduce(&bytes, 1, DType::kI64, ReduceOp::kMax);
  return {{"residency", name_of(evaluated.residency)}, {"weights_held_bytes", bytes}};
}

void run_logits(const Options& options, const RunSetup& setup, Evaluated& evaluated) {
  const LogitsOptions logits{evaluated.compute, options.get_flag("hidden"), evaluated.limit,
                             evaluated.held.get()};
  const std::string& output = options.required("output");
  evaluate_logits(evaluated.checkpoint, *evaluated.model, *evaluated.source,
                  options.required("input"), output, logits, setup.cluster());
  Json result = residency_json(evaluated, setup.cluster());
  if (!setup.speaks()) return;
  if (options.get_flag("json")) {
    result["tasks"]["logits"] = {{"output", output}};
    print_json(result);
  } else {
    std::printf("%s\n", output.c_str());
  }
}

void run_perplexity(const Options& options, const RunSetup& setup, Evaluated& evaluated) {
  const LoadedData data =
      load_data(options, data_request(options, "data"), evaluated.checkpoint, *evaluated.model);
  const Cluster& cluster = setup.cluster();
  const bool original = !options.given("format") && !options.given("recipe");
  const MemoryPlan predicted = plan_evaluation(
      *evaluated.source, *evaluated.model, evaluated.compute,
      !(original && evaluated.layout.has_value()), shape_of(data.batches), options, cluster);
  const PerplexityOptions perplexity{evaluated.compute, evaluated.limit, true,
                                     evaluated.held.get()};
  const Perplexity result = evaluate_perplexity(
      evaluated.checkpoint, *evaluated.model, *evaluated.source, data.batches, perplexity, cluster);
  Json json = residency_json(evaluated, cluster);
  json["memory"] = evaluation_memory(predicted, cluster);
  if (!setup.speaks()) return;
  if (options.get_flag("json")) {
    json["tasks"]["perplexity"] = {
        {"value", result.value}, {"nll", result.nll}, {"tokens", result.tokens}};
    print_json(json);
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
  if (calibrates_on_compressed(options) && !recipe) {
    throw UsageError("--calibrate-on needs --format or --recipe");
  }
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
