#include "app/budgets.h"
#include "app/commands.h"
#include "app/data.h"
#include "app/library_layout.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "app/search_options.h"
#include "app/search_report.h"
#include "app/trtllm.h"
#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "core/stop_signal.h"
#include "dist/preflight.h"
#include "engine/summary.h"
#include "engine/weight_source.h"
#include "evaluate/tasks/perplexity.h"
#include "model/family.h"
#include "search/candidate_rules.h"
#include "search/decision.h"

namespace halftone {
namespace {

Options options() {
  Options options(
      "halftone autoquantize --model DIR --formats NAME,NAME[,none] --bits B[,B] --out DIR "
      "[options]",
      "Chooses a format for each group of linears so that the weights' mean bits stay within a "
      "budget and\nthe predicted loss is least, then quantizes and writes the checkpoint.");
  options.group("What");
  options.text("model", "DIR", "", "the checkpoint: a Hugging Face, Megatron-core or NeMo folder");
  add_source_option(options);
  add_family_option(options);
  add_search_options(options);
  add_calibration_options(options);
  add_output_options(options);
  options.group("Evaluation");
  options.paths("eval", "text (as --calib) on which every output's perplexity is measured");
  options.integer("eval-samples", 0, 0, 100'000'000, "use the first N samples, 0: all");
  options.integer("eval-length", 512, 2, 10'000'000, "cut samples to N tokens");
  add_workspace_options(options);
  add_run_options(options);
  return options;
}

// What follows from the options and the headers alone.
struct Search {
  Checkpoint checkpoint;
  std::unique_ptr<Model> model;
  SourceLayout source;
  SearchSpace space;
  std::vector<double> budgets;
  fs::path out;

  explicit Search(const Options& options)
      : checkpoint(open_source(options)),
        model(open_model(options, checkpoint)),
        source(checkpoint, *model),
        space(make_search_space(*model, search_options(options))),
        budgets(options.given("decisions") ? std::vector<double>() : bits_budgets(options)),
        out(without_trailing_slash(options.required("out"))) {
    check_budgets(space, budgets);
  }

  fs::path workspace(const Options& options) const { return workspace_of(options, out); }
};

std::string digest_of(const Json& json) {
  const std::string text = json.dump();
  return sha256_of_bytes(text.data(), text.size());
}

void refuse_options(const Options& options) {
  if (calibrates_on_compressed(options)) {
    throw UsageError(
        "a search compares formats of one and the same activations: leave out "
        "--calibrate-on compressed");
  }
  if (!options.get_paths("eval").empty() && wants_trtllm(options)) {
    throw UsageError("--eval reads unified checkpoints back: leave out --target trtllm");
  }
}

// The targets of candidates, which are never written: what none of them can be is refused here.
std::vector<Target> candidate_targets(const Options& options, const Search& search) {
  const SearchSpace& space = search.space;
  std::vector<Recipe> recipes;
  for (size_t c = 0; c < space.none(); ++c) {
    recipes.push_back(mixed_recipe(*search.model, space, everywhere(space, c),
                                   space.candidates[c].name, options.get("kv-cache")));
  }
  adapt_recipes(options, recipes);
  std::vector<Target> targets =
      make_targets(options, search.source, *search.model, recipes, search.out);
  for (size_t a = 0; a < space.none(); ++a) {
    for (size_t b = a + 1; b < space.none(); ++b) {
      // Every other group: the checkpoint must hold both.
      std::vector<size_t> chosen = everywhere(space, a);
      const std::vector<size_t> other = everywhere(space, b);
      for (size_t g = 1; g < chosen.size(); g += 2) chosen[g] = other[g];
      std::vector<Recipe> mixed{mixed_recipe(
          *search.model, space, chosen,
          space.candidates[a].name + " with " + space.candidates[b].name, options.get("kv-cache"))};
      adapt_recipes(options, mixed);
      const std::vector<Target> trial =
          make_targets(options, search.source, *search.model, mixed, search.out);
      check_engines(options, *search.model, trial, /*speaks=*/false);
    }
  }
  return targets;
}

ScoreOptions score_options(const Options& options, const Search& search, const LoadedData& data,
                           const QuantizeOptions& run, const Cluster& cluster) {
  ScoreOptions score;
  score.method = score_method(options);
  score.labels = loss_labels(options);
  score.batches = score_batches(options, data.batches);
  score.workspace = search.workspace(options);
  Json groups = Json::array();
  for (const LinearGroup& group : search.space.groups) {
    groups.push_back({{"name", group.name}, {"candidates", group.candidates}});
  }
  Json recipes = Json::array();
  for (const Candidate& candidate : search.space.candidates) {
    if (candidate.recipe) recipes.push_back(to_json(*candidate.recipe));
  }
  const std::string model = search.checkpoint.fingerprint();
  score.identity = {{"halftone version", HALFTONE_VERSION},
                    {"model", model},
                    {"model's time of change", search.checkpoint.change_time()},
                    {"data", data.fingerprint},
                    {"batches", data.batches.size()},
                    {"formats", recipes},
                    {"groups", digest_of(groups)},
                    {"kv-cache", options.get("kv-cache")},
                    {"score", name_of(score.method)},
                    {"loss", score.labels == LossLabels::kData ? "labels" : "logits"},
                    {"score batches", score.batches},
                    {"kind of device", cluster.device.is_cuda() ? "cuda" : "cpu"},
                    {"dtype", name_of(run.compute_dtype)},
                    {"numerics", options.get("numerics")},
                    {"count-padding", run.count_padding},
                    {"moe-calib-experts-ratio", run.observed_experts},
                    {"expert-min-tokens", run.expert_floor},
                    {"seed", options.get_integer("seed")}};
  score.texts = {{"model_fingerprint", model},
                 {"data_fingerprint", data.fingerprint},
                 {"recipes", recipes.dump()},
                 {"calibrated_on", options.get("calibrate-on")},
                 {"compute_dtype", name_of(run.compute_dtype)},
                 {"expert_min_tokens", std::to_string(run.expert_floor)}};
  score.resume = options.get("resume") == "auto";
  score.overwrite = options.get_flag("overwrite");
  score.overhead = options.get_number("save-overhead");
  score.compute_dtype = run.compute_dtype;
  score.numerics = run.numerics;
  score.count_padding = run.count_padding;
  score.observed_experts = run.observed_experts;
  score.expert_floor = run.expert_floor;
  score.seed = options.get_integer("seed");
  score.stage_limit = run.stage_limit;
  score.budget = run.budget;
  return score;
}

// The weights are needed several times for the scores, and then once more. What is held in the
// formats of an output would be of no use before they are chosen.
Residency scoring_residency(const Options& options, const Search& search, int64_t limit,
                            const RunSetup& setup) {
  constexpr int kPasses = 2;
  const Residency residency =
      settle_residency(options, plan_loads(search.source.stages(), limit), kPasses, setup);
  if (residency != Residency::kCompressed) return residency;
  if (setup.speaks()) {
    log_info(
        "residency compressed: a search works on source weights, which are read when they "
        "are needed");
  }
  return Residency::kStream;
}

// What --decisions says, checked before the long part by scores of nothing.
std::vector<Decision> decide_all(const Options& options, const Search& search,
                                 const Scores& scores) {
  const DType dtype = search.source.dtype();
  if (options.given("decisions")) {
    const fs::path path = options.get("decisions");
    return read_decisions(read_json_file(path), path.string(), *search.model, search.space, scores,
                          dtype);
  }
  std::vector<Decision> decisions;
  for (const double bits : search.budgets) {
    decisions.push_back(decide(*search.model, search.space, scores, bits, dtype));
  }
  return decisions;
}

std::vector<Target> decided_targets(const Options& options, const Search& search,
                                    const std::vector<Decision>& decisions) {
  std::vector<Recipe> recipes;
  for (const Decision& decision : decisions) {
    recipes.push_back(mixed_recipe(*search.model, search.space, decision.chosen, decision.name,
                                   options.get("kv-cache")));
  }
  adapt_recipes(options, recipes);
  std::vector<Target> targets = make_targets(options, search.source, *search.model, recipes,
                                             assembly_folder(options, search.out));
  for (size_t t = 0; t < targets.size(); ++t) {
    auto& names = targets[t].plan.searched_as;
    for (const StageSpec& stage : search.model->stages()) {
      names.emplace_back(stage.linears.size(), decisions[t].name);
    }
    for (size_t g = 0; g < search.space.groups.size(); ++g) {
      const LinearGroup& group = search.space.groups[g];
      for (const size_t i : group.linears) {
        names[group.stage][i] = search.space.candidates[decisions[t].chosen[g]].name;
      }
    }
  }
  return targets;
}

// Of one output, or without a folder of the original. Collective.
double measure(const Options& options, const Search& search, const fs::path& folder,
               const QuantizeOptions& run, const Cluster& cluster) {
  std::optional<Checkpoint> exported;
  if (!folder.empty()) exported.emplace(folder);
  const Checkpoint& checkpoint = exported ? *exported : search.checkpoint;
  const std::unique_ptr<WeightSource> weights =
      folder.empty() ? make_original_source(search.source)
                     : make_exported_source(checkpoint, *search.model);
  const LoadedData data =
      load_data(options, data_request(options, "eval"), search.checkpoint, *search.model);
  const LayerPassOptions how{run.compute_dtype, run.stage_limit, true, nullptr};
  return evaluate_perplexity(checkpoint, *search.model, *weights, data.batches, how, cluster).value;
}

void evaluate(const Options& options, const Search& search, const QuantizeResult& result,
              const QuantizeOptions& run, const Cluster& cluster, std::vector<Decision>& decisions,
              Json& report) {
  if (options.get_paths("eval").empty()) return;
  report["original_perplexity"] = measure(options, search, {}, run, cluster);
  for (size_t t = 0; t < decisions.size(); ++t) {
    decisions[t].perplexity = measure(options, search, result.outputs[t].dir, run, cluster);
  }
}

// The journal of writing the outputs, apart from that of the search: other budgets write others.
JournalOptions export_journal(const Options& options, const Search& search,
                              const ScoreOptions& score, const std::vector<Decision>& decisions) {
  Json chosen = Json::object();
  for (const Decision& decision : decisions) chosen[decision.name] = decision.chosen;
  JournalOptions journal;
  journal.workspace = score.workspace / "export";
  journal.identity = score.identity;
  journal.identity["decisions"] = digest_of(chosen);
  journal.identity["output"] = search.out.string();
  journal.identity["target"] = options.get("target");
  journal.identity["max-shard-size"] = options.get_integer("max-shard-size");
  journal.texts = score.texts;
  journal.resume = score.resume;
  // What another budget left half done is of no use.
  journal.overwrite = true;
  journal.overhead = score.overhead;
  return journal;
}

// What the whole run computes with; the memory of its calibration is planned.
QuantizeOptions plan_run(const Options& options, const Search& search,
                         const std::vector<Target>& candidates, const LoadedData& data,
                         const RunSetup& setup) {
  const Cluster& cluster = setup.cluster();
  QuantizeOptions run = quantize_options_of(options, search.source, *search.model, {},
                                            assembly_folder(options, search.out), cluster);
  run.compute_dtype = compute_dtype(options, model_dtype(search.checkpoint));
  run.count_padding = options.get_flag("count-padding");
  run.observed_experts = options.get_number("moe-calib-experts-ratio");
  run.expert_floor = options.get_integer("expert-min-tokens");
  run.residency = scoring_residency(options, search, run.stage_limit, setup);
  plan_memory(search.source, *search.model, candidates, shape_of(data.batches), options, cluster,
              run);
  return run;
}

Scores scores_of(const Search& search, const std::vector<Target>& candidates,
                 const LoadedData& data, ScoreOptions scoring, Residency residency,
                 const Cluster& cluster, double& loss) {
  std::vector<CandidatePlan> plans;
  for (const Target& target : candidates) {
    plans.push_back({target.plan.recipe.name, target.plan});
  }
  HeldWeights held(/*keeps_source=*/true);
  if (residency == Residency::kResident) scoring.held = &held;
  ScoreResult found = find_scores(search.source, *search.model, search.space, plans, data.batches,
                                  scoring, cluster);
  loss = found.loss;
  return std::move(found.scores);
}

// Writes the checkpoints of all decisions in one pass over the weights, or finds them written.
QuantizeResult write_outputs(const Options& options, const Search& search,
                             const std::vector<Decision>& decisions, const ScoreOptions& scoring,
                             QuantizeOptions run, const RunSetup& setup) {
  const Cluster& cluster = setup.cluster();
  const std::vector<Target> targets = decided_targets(options, search, decisions);
  check_engines(options, *search.model, targets, setup.speaks());
  run.space_beside = check_layout(options, search.checkpoint, *search.model, targets);
  const StatisticsStore store = StatisticsStore::open(scoring.workspace / "calibration.h5");
  run.from_store = &store;
  run.residency = Residency::kStream;
  RunJournal journal(export_journal(options, search, scoring, decisions), *search.model, cluster);
  std::optional<QuantizeResult> result =
      published_result(options, search.out, journal, cluster.control);
  if (result) {
    if (setup.speaks()) {
      log_info("an earlier run of this command is complete: nothing is left to write");
    }
    journal.clear();
  } else {
    if (setup.speaks()) {
      check_output(search.out, search.checkpoint.directory(), options.get_flag("overwrite"));
    }
    result = quantize(search.source, *search.model, targets, {}, &journal, run, cluster);
  }
  reshard_outputs(options, search.out, cluster, *result);
  write_library_outputs(options, search.out, cluster, *result);
  return *result;
}

void run(const Options& options, const World* world) {
  refuse_options(options);
  install_stop_signals();
  const RunSetup setup(options, *world);
  const Cluster& cluster = setup.cluster();
  const bool speaks = setup.speaks();
  const Search search(options);
  require_same_model(search.checkpoint, cluster);
  const ScoreMethod method = score_method(options);
  if (options.given("decisions")) decide_all(options, search, no_scores(search.space));
  const std::vector<Target> candidates = candidate_targets(options, search);
  const fs::path exporting = search.workspace(options) / "export";
  if (speaks && !Workspace(exporting).has_manifest()) {
    check_output(search.out, search.checkpoint.directory(), options.get_flag("overwrite"));
  }

  const LoadedData data =
      load_data(options, data_request(options, "calib"), search.checkpoint, *search.model);
  const int64_t scored = score_batches(options, data.batches);
  if (method != ScoreMethod::kKl) check_labels(options, data.batches, scored);
  if (speaks) {
    log_info(data.samples, " samples in ", data.batches.size(), " batches, the first ", scored,
             " of them for the scores");
  }
  const QuantizeOptions quantizing = plan_run(options, search, candidates, data, setup);
  make_parent(search.out, speaks, cluster.control);
  check_shared_folder(search.out.parent_path(), seat_of(*world, cluster.control), cluster.control,
                      "--out");

  const ScoreOptions scoring = score_options(options, search, data, quantizing, cluster);
  double loss = 0.0;
  const Scores scores =
      scores_of(search, candidates, data, scoring, quantizing.residency, cluster, loss);
  std::vector<Decision> decisions = decide_all(options, search, scores);
  if (speaks) log_decisions(search.space, decisions);
  const QuantizeResult result =
      write_outputs(options, search, decisions, scoring, quantizing, setup);

  Json report{{"method", name_of(method)},
              {"loss_labels", scoring.labels == LossLabels::kData ? "data" : "model"}};
  if (method != ScoreMethod::kKl) report["loss"] = loss;
  evaluate(options, search, result, quantizing, cluster, decisions, report);
  report.update(search_json(search.space, scores, decisions));
  if (!speaks) return;
  write_frontier(search.out, report);
  // As late as can be: without it the same command would find an output that exists already.
  world->at_end([exporting] {
    forget(Workspace(exporting));
    std::error_code ignored;  // Rubbish that stays does no harm.
    fs::remove_all(exporting, ignored);
  });
  if (options.get_flag("json")) {
    Json json = to_json(result);
    json["search"] = report;
    print_json(json);
  } else {
    print_decisions(decisions, result);
  }
}

}  // namespace

Command autoquantize_command() {
  return {"autoquantize", "choose a format per layer under a budget of bits, then quantize", true,
          &options, &run};
}

}  // namespace halftone
