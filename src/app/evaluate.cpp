#include <algorithm>
#include <cstdio>
#include <sstream>

#include "app/commands.h"
#include "app/evaluation_task.h"
#include "app/generation.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {
namespace {

const std::vector<EvaluationTask>& all_tasks() {
  static const std::vector<EvaluationTask> tasks = [] {
    std::vector<EvaluationTask> all = {perplexity_task(), kl_task(), mmlu_task()};
    for (EvaluationTask& task : choice_evaluation_tasks()) all.push_back(std::move(task));
    all.push_back(generate_task());
    all.push_back(logits_task());
    return all;
  }();
  return tasks;
}

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const EvaluationTask& task : all_tasks()) names.push_back(task.name);
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

Options options() {
  Options options("halftone evaluate --model DIR --tasks NAME[,NAME] [options]",
                  "Measures a model: the original, an exported checkpoint, or, with --format or "
                  "--recipe,\nthe model fake-quantized in memory.");
  options.group("What");
  options.text("model", "DIR", "", "the checkpoint, original or exported");
  add_source_option(options);
  add_family_option(options);
  options.text("tasks", "NAME[,NAME]", "perplexity", "what to measure: " + joined(task_names()));
  options.paths("data", "evaluation text (as --calib); default: an embedded text");
  options.integer("data-samples", 0, 0, 100'000'000, "use the first N samples, 0: all");
  options.integer("data-length", 512, 2, 10'000'000, "cut samples to N tokens");
  options.group("Logits and generation");
  options.text("input", "FILE", "",
               "logits: X.safetensors with input_ids, attention_mask, decoder_input_ids, ...; "
               "generate: JSONL with prompt or input_ids");
  options.text("output", "FILE", "", "where the F32 logits, or the JSONL of continuations, go");
  options.flag("hidden", "logits: also write hidden states and router choices");
  add_task_options(options);
  add_generation_options(options);
  add_fake_quantization_options(options);
  add_run_options(options);
  return options;
}

std::vector<EvaluationTask> wanted_tasks(const Options& options) {
  std::vector<EvaluationTask> wanted;
  std::istringstream names(options.get("tasks"));
  for (std::string name; std::getline(names, name, ',');) {
    const auto found = std::find_if(all_tasks().begin(), all_tasks().end(),
                                    [&](const EvaluationTask& task) { return name == task.name; });
    if (found == all_tasks().end()) {
      throw UsageError(concat("unknown task '", name, "'", nearest_hint(name, task_names()),
                              "; supported: ", joined(task_names())));
    }
    if (found->check) found->check(options);
    wanted.push_back(*found);
  }
  if (wanted.empty()) throw UsageError("--tasks names none; supported: " + joined(task_names()));
  return wanted;
}

// What a run says of the weights that it held. Collective.
Json residency_json(const Evaluated& evaluated, const Cluster& cluster) {
  int64_t bytes = evaluated.held ? evaluated.held->bytes() : 0;
  cluster.control.all_reduce(&bytes, 1, DType::kI64, ReduceOp::kMax);
  return {{"residency", name_of(evaluated.residency)}, {"weights_held_bytes", bytes}};
}

void run(const Options& options, const World* world) {
  const std::vector<EvaluationTask> tasks = wanted_tasks(options);
  const std::optional<Recipe> recipe = fake_quantization_recipe(options);
  if (calibrates_on_compressed(options) && !recipe) {
    throw UsageError("--calibrate-on needs --format or --recipe");
  }
  const RunSetup setup(options, *world);
  Evaluated evaluated(options, recipe, setup);
  Json about_run;
  Json results;
  std::string text;
  for (const EvaluationTask& task : tasks) {
    const TaskResult result = task.run(options, setup, evaluated, about_run);
    results[task.name] = result.json;
    text += result.text + "\n";
  }
  about_run.update(residency_json(evaluated, setup.cluster()));
  if (!setup.speaks()) return;
  about_run["tasks"] = results;
  if (options.get_flag("json")) {
    print_json(about_run);
  } else {
    std::fputs(text.c_str(), stdout);
  }
}

}  // namespace

Command evaluate_command() {
  return {"evaluate", "measures an original, fake-quantized or exported model", true, &options,
          &run};
}

}  // namespace halftone
