#include "search/candidate_scores.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "dist/agreement.h"
#include "engine/calibration_pass.h"
#include "engine/store_stage.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"

namespace halftone {
namespace {

const std::string kScore = "score:";

// The scores of a finished search in a store of their own: per group "score:FORMAT" [2], the halves
// of as_pairs().
void save_scores(const fs::path& path, const SearchSpace& space, const ScoreResult& result,
                 const ScoreOptions& options) {
  const fs::path partial = path.string() + ".partial";
  {
    StatisticsStore store = StatisticsStore::create(partial);
    store.set_text("identity", options.identity.dump());
    store.set_text("method", name_of(options.method));
    store.set_text("loss", Json(result.loss).dump());
    for (size_t g = 0; g < space.groups.size(); ++g) {
      const LinearGroup& group = space.groups[g];
      if (!group.is_searched()) continue;
      for (size_t i = 0; i < group.candidates.size(); ++i) {
        if (group.candidates[i] == space.none()) continue;
        store.set_values(group.name, kScore + space.candidates[group.candidates[i]].name,
                         as_pairs({result.scores[g][i]}), {2});
      }
    }
    store.flush();
  }
  rename_path(partial, path);
  sync_directory(path.parent_path());
}

ScoreResult load_scores(const StatisticsStore& store, const SearchSpace& space,
                        const std::string& source) {
  ScoreResult result{no_scores(space)};
  result.loss = parse_json(store.text("loss"), source).get<double>();
  for (size_t g = 0; g < space.groups.size(); ++g) {
    const LinearGroup& group = space.groups[g];
    if (!group.is_searched()) continue;
    for (size_t i = 0; i < group.candidates.size(); ++i) {
      if (group.candidates[i] == space.none()) continue;
      const StatisticsStore::Values stored =
          store.values(group.name, kScore + space.candidates[group.candidates[i]].name);
      result.scores[g][i] = from_pairs({stored.values.begin(), stored.values.end()}).at(0);
    }
  }
  return result;
}

// As they are stored, so that a later run decides alike.
ScoreResult rounded(ScoreResult result) {
  for (std::vector<double>& group : result.scores) {
    const std::vector<float> halves = as_pairs(group);
    group = from_pairs({halves.begin(), halves.end()});
  }
  return result;
}

Json to_json(const ScoreResult& result) {
  return {{"loss", result.loss}, {"scores", result.scores}};
}

// One call of find_scores().
class ScoreSearch {
 public:
  ScoreSearch(const SourceLayout& source, Model& model, const SearchSpace& space,
              const std::vector<CandidatePlan>& plans, const std::vector<Batch>& batches,
              const ScoreOptions& options, const Cluster& cluster)
      : source_(source),
        model_(model),
        space_(space),
        plans_(plans),
        batches_(batches),
        options_(options),
        cluster_(cluster),
        context_{source.dtype(), options.compute_dtype, options.numerics, cluster,
                 options.expert_floor},
        inputs_(options.workspace / "inputs", options.batches) {}

  ScoreResult run() {
    if (std::optional<ScoreResult> found = earlier()) {
      remove_inputs();
      return *found;
    }
    RunJournal calibration(journal_options(options_.workspace, {}), model_, cluster_);
    try {
      calibrate(calibration);
      const ScoreResult result = rounded(score());
      keep(result);
      calibration.clear();
      if (leads()) calibration.forget();
      remove_inputs();
      return result;
    } catch (const ReadError&) {
      throw;
    } catch (const InputError&) {
      calibration.forget();
      throw;
    }
  }

 private:
  fs::path store_path() const { return options_.workspace / "calibration.h5"; }
  fs::path scores_path() const { return options_.workspace / "search.h5"; }
  bool leads() const { return cluster_.control.rank() == 0; }

  JournalOptions journal_options(const fs::path& workspace, std::vector<std::string> steps) const {
    JournalOptions journal;
    journal.workspace = workspace;
    journal.identity = options_.identity;
    journal.texts = options_.texts;
    journal.steps = std::move(steps);
    journal.resume = options_.resume;
    journal.overwrite = options_.overwrite;
    journal.overhead = options_.overhead;
    return journal;
  }

  // The scores of an earlier search like this one. Rank 0 looks.
  std::optional<ScoreResult> earlier() const {
    Json found;
    if (leads() && options_.resume && fs::exists(scores_path()) && fs::exists(store_path())) {
      const StatisticsStore store = StatisticsStore::open(scores_path());
      const Json theirs = parse_json(store.text("identity"), scores_path().string());
      if (theirs == options_.identity) {
        found = to_json(load_scores(store, space_, scores_path().string()));
        log_info("the scores are those of an earlier search, in '", scores_path().string(), "'");
      } else {
        refuse_other(theirs);
      }
    }
    found = Json::parse(broadcast_text(cluster_.control, found.dump(), 0));
    if (found.is_null()) return std::nullopt;
    return ScoreResult{found.at("scores").get<Scores>(), found.at("loss").get<double>()};
  }

  void refuse_other(const Json& theirs) const {
    if (options_.overwrite) return;
    for (const auto& [key, mine] : options_.identity.items()) {
      const Json other = theirs.value(key, Json());
      if (other == mine) continue;
      throw UsageError(concat("'", scores_path().string(), "' is of another search: its ", key,
                              " is ", other.dump().substr(0, 100), ", expected ",
                              mine.dump().substr(0, 100), "; choose another --workspace, or pass ",
                              "--overwrite to give it up"));
    }
  }

  // What the pass looks at: the inputs of all linears up to the last that may be quantized, and
  // whatever the candidates ask for. The head itself is computed only where it may be.
  std::vector<ObserveOptions> observe() const {
    std::vector<const TargetPlan*> targets;
    for (const CandidatePlan& plan : plans_) targets.push_back(&plan.target);
    std::vector<ObserveOptions> observe = what_to_observe(model_, targets, /*complete=*/true);
    for (size_t s = 0; s + 1 < observe.size(); ++s) observe[s].inputs = true;
    return observe;
  }

  void calibrate(RunJournal& journal) {
    if (journal.completed() && fs::exists(store_path())) {
      inputs_.place_all(journal.completed()->at("inputs"));
      if (leads()) log_info("the calibration of an interrupted search is complete");
      return;
    }
    check_space();
    inputs_.create(cluster_);
    CalibrationOptions calibration;
    calibration.compute_dtype = options_.compute_dtype;
    calibration.count_padding = options_.count_padding;
    calibration.observed_experts = options_.observed_experts;
    calibration.stage_limit = options_.stage_limit;
    calibration.budget = options_.budget;
    calibration.show_progress = options_.show_progress;
    calibration.held = options_.held;
    calibration.observe = observe();
    calibration.resume = [&](size_t computed, const std::vector<int64_t>& mine) {
      return resume(journal, computed, mine);
    };
    calibration.finished = [&](size_t stage, const BatchPass& pass, size_t computed) {
      Json list = Json::array();
      const bool next = stage < computed && stage + 1 < model_.stages().size();
      if (next) {
        list = inputs_.write(stage + 1, pass, cluster_);
        inputs_.place(stage + 1, list);
      }
      journal.finish_stage(stage, {{"inputs", list}}, pass, computed, [] {});
    };
    run_calibration(source_, model_, batches_, calibration, cluster_,
                    [&](const CalibratedStage& seen) -> std::optional<ServedStage> {
                      consume(seen, journal.open_stage(seen.index));
                      return std::nullopt;
                    });
    journal.complete({{"inputs", inputs_.places()}});
  }

  // Where the inputs of stages behind finished ones are.
  ResumePlan resume(RunJournal& journal, size_t computed, const std::vector<int64_t>& mine) {
    ResumePlan plan = journal.plan(computed, /*can_replay=*/true, mine);
    size_t finished = 0;
    for (size_t s = 0; s < plan.actions.size(); ++s) {
      if (plan.actions[s] == StageAction::kRun) continue;
      ++finished;
      const Json record = journal.records_of(s);
      const std::string text = leads() ? record.at("inputs").dump() : "";
      const Json list = Json::parse(broadcast_text(cluster_.control, text, 0));
      if (!list.empty()) inputs_.place(s + 1, list);
    }
    if (leads() && finished > 0) {
      log_info("an interrupted search is resumed: ", finished, " of ", plan.actions.size(),
               " stages are calibrated");
    }
    return plan;
  }

  void check_space() const {
    int64_t positions = 0;
    for (int64_t b = 0; b < options_.batches; ++b) {
      const Batch& batch = batches_[static_cast<size_t>(b)];
      positions += batch.rows * (batch.length + (batch.encoder ? batch.encoder->length : 0));
    }
    const auto stages = static_cast<int64_t>(model_.stages().size());
    const int64_t needed =
        stages * positions * model_.hidden_size() * (options_.compute_dtype == DType::kF32 ? 4 : 2);
    if (!leads()) return;
    std::error_code error;
    fs::create_directories(options_.workspace, error);
    if (error) {
      throw ResourceError(concat("cannot create '", options_.workspace.string(),
                                 "': ", error.message(), " (choose another --workspace)"));
    }
    const int64_t free = free_bytes(options_.workspace);
    if (free >= needed) return;
    throw ResourceError(concat("'", options_.workspace.string(), "' has ", free,
                               " bytes free, but the inputs of all stages take ", needed,
                               ": choose another --workspace, or a smaller --score-samples"));
  }

  // Statistics for all candidates, and the results of their searches.
  void consume(const CalibratedStage& seen, StatisticsStore* store) const {
    const StageSpec& stage = model_.stages()[seen.index];
    if (store != nullptr) {
      save_statistics(*store, stage, seen.statistics);
      save_weight_amaxes(*store, stage, seen.tensor_amax);
    }
    for (const CandidatePlan& plan : plans_) {
      const Recipe& recipe = plan.target.recipe;
      const bool searches = std::any_of(
          recipe.algorithms.begin(), recipe.algorithms.end(),
          [](const AlgorithmSpec& spec) { return algorithm_named(spec.method).choose != nullptr; });
      if (!searches) continue;
      Choices choices(stage.linears.size());
      solve_calibrated(stage, without_folding(plan.target.stages[seen.index]), recipe, seen,
                       context_, choices);
      if (store != nullptr) save_choices(*store, stage, recipe.name, choices);
    }
  }

  ScoreResult score() {
    const StatisticsStore store = StatisticsStore::open(store_path());
    const std::vector<Batch> batches(batches_.begin(), batches_.begin() + options_.batches);
    int64_t longest = 1;
    for (const Batch& batch : batches) longest = std::max(longest, batch.length);
    model_.prepare(longest, scalar_type_of(options_.compute_dtype), cluster_.device);
    const ScoreRun run{source_,
                       model_,
                       space_,
                       plans_,
                       batches,
                       store,
                       inputs_,
                       context_,
                       options_.stage_limit,
                       options_.count_padding,
                       options_.budget,
                       options_.show_progress,
                       options_.held};
    const bool kl = options_.method == ScoreMethod::kKl;
    const std::vector<std::string> steps = kl ? kl_steps(run) : gradient_steps(model_, space_);
    RunJournal journal(journal_options(options_.workspace / "scores", steps), model_, cluster_);
    return kl ? score_by_divergence(run, journal) : score_back(run, journal);
  }

  ScoreResult score_back(const ScoreRun& run, RunJournal& journal) const {
    LossOptions loss;
    loss.count_padding = options_.count_padding;
    loss.seed = options_.seed;
    loss.labels = options_.labels;
    if (options_.method == ScoreMethod::kGradient) {
      return score_by_gradients(run, loss, ScoreRule::kElements, journal);
    }
    loss.labels = LossLabels::kModel;
    loss.mean = false;
    return score_by_gradients(run, loss, ScoreRule::kRows, journal);
  }

  void keep(const ScoreResult& result) const {
    if (leads()) save_scores(scores_path(), space_, result, options_);
    cluster_.control.barrier();
  }

  void remove_inputs() const {
    if (leads()) {
      inputs_.remove();
      std::error_code ignored;  // Rubbish that stays does no harm.
      fs::remove_all(options_.workspace / "scores", ignored);
    }
    cluster_.control.barrier();
  }

  const SourceLayout& source_;
  Model& model_;
  const SearchSpace& space_;
  const std::vector<CandidatePlan>& plans_;
  const std::vector<Batch>& batches_;
  const ScoreOptions& options_;
  Cluster cluster_;
  SolveContext context_;
  KeptInputs inputs_;
};

}  // namespace

const char* name_of(ScoreMethod method) {
  switch (method) {
    case ScoreMethod::kGradient:
      return "gradient";
    case ScoreMethod::kKl:
      return "kl";
    case ScoreMethod::kFisher:
      return "fisher";
  }
  return "";
}

ScoreResult find_scores(const SourceLayout& source, Model& model, const SearchSpace& space,
                        const std::vector<CandidatePlan>& plans, const std::vector<Batch>& batches,
                        const ScoreOptions& options, const Cluster& cluster) {
  return ScoreSearch(source, model, space, plans, batches, options, cluster).run();
}

}  // namespace halftone
