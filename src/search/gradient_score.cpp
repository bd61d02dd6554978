// Scores by one backward pass (calibration.md, 9.4).
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/progress.h"
#include "dist/agreement.h"
#include "dist/reductions.h"
#include "engine/batch_rows.h"
#include "engine/calibration_pass.h"
#include "engine/out_of_memory.h"
#include "formats/tensor_bridge.h"
#include "search/layer_backward.h"
#include "search/score_pass.h"

namespace halftone {
namespace {

// Rows of about this many positions go back together: enough for matrix products, little enough
// for the activations that a graph keeps.
int64_t unit_positions(const Cluster& cluster) {
  return cluster.device.is_cuda() ? 8192 : 512;
}

// The first stage with something to score: nothing has to go back any further.
size_t first_scored(const SearchSpace& space) {
  for (const LinearGroup& group : space.groups) {
    if (group.is_searched()) return group.stage;
  }
  throw UsageError("no linear has a choice of formats: there is nothing to search");
}

// From the last stage to `first`. A stage in parts goes forth through what is before its experts,
// through the experts, and back through what is before them.
std::vector<LoadStep> steps_back(const SourceLayout& source, int64_t limit, size_t first) {
  std::vector<std::vector<LoadStep>> of_stage(source.stages().size());
  for (LoadStep& step : plan_loads(source.stages(), limit)) {
    of_stage[step.stage].push_back(std::move(step));
  }
  std::vector<LoadStep> steps;
  for (size_t s = of_stage.size(); s-- > first;) {
    steps.insert(steps.end(), of_stage[s].begin(), of_stage[s].end());
    if (of_stage[s].size() > 1) steps.push_back(of_stage[s].front());
  }
  return steps;
}

States present(const States& states) {
  const auto none_if_empty = [](const at::Tensor& x) {
    return x.defined() && x.numel() == 0 ? at::Tensor() : x;
  };
  return {none_if_empty(states.x), none_if_empty(states.encoder)};
}

class GradientPass {
 public:
  GradientPass(const ScoreRun& run, const LossOptions& loss, ScoreRule rule, RunJournal& journal)
      : run_(run),
        loss_(loss),
        rule_(rule),
        journal_(journal),
        cluster_(run.context.cluster),
        dtype_(scalar_type_of(run.context.compute_dtype)),
        stages_(run.model.stages().size()),
        first_(first_scored(run.space)),
        pass_(run.model, run.batches, {dtype_, run.count_padding}, cluster_),
        gradients_(pass_.mine().size()) {}

  ScoreResult run() {
    const size_t count = stages_ - first_;
    ResumePlan plan = journal_.plan(count, /*can_replay=*/false, pass_.mine());
    if (plan.restored_at != SIZE_MAX) {
      for (size_t i = 0; i < gradients_.size(); ++i) gradients_[i] = present(plan.states[i]);
    }
    size_t begun = 0;
    while (begun < count && plan.action(begun) == StageAction::kSkip) ++begun;
    std::vector<LoadStep> steps = steps_back(run_.source, run_.stage_limit, first_);
    std::erase_if(steps, [&](const LoadStep& step) { return step.stage >= stages_ - begun; });
    StageLoader loader(run_.source.checkpoint(), steps, cluster_, run_.held);
    Progress progress("score", static_cast<int64_t>(count),
                      run_.show_progress && cluster_.world.rank() == 0);
    for (size_t step = begun; step < count; ++step) {
      const size_t s = stages_ - 1 - step;
      const std::string& name = run_.model.stages()[s].name;
      cluster_.world.activity().begin_stage("score " + name);
      if (cluster_.trace != nullptr) cluster_.trace->set_stage(s);
      try {
        score_stage(s, loader);
        run_.budget.check_peaks(cluster_.device);
      } catch (Error& error) {
        error.set_phase("score " + name);
        throw;
      } catch (const std::exception& error) {
        if (!is_out_of_memory(error)) throw;
        throw ResourceError(concat("out of memory while ", name, " is scored: shorten the samples ",
                                   "(--calib-length), choose a smaller --max-stage-bytes, or use ",
                                   "fewer --threads"));
      }
      release_free_memory();
      finish_step(step, s, count);
      progress.step(static_cast<int64_t>(step) + 1, name, loader.bytes_read());
    }
    return collect(count);
  }

 private:
  // The units of this rank's batches, in order.
  std::vector<ScoreUnit> units_of(size_t s, const StageGroups& groups) const {
    std::vector<ScoreUnit> units;
    for (size_t i = 0; i < pass_.mine().size(); ++i) {
      const int64_t batch = pass_.mine()[i];
      const BatchContext& context = pass_.context(batch);
      const int64_t rows = std::ssize(context.tokens);
      const int64_t length = std::max<int64_t>({1, context.length, context.encoder_length});
      const int64_t most = std::clamp<int64_t>(unit_positions(cluster_) / length, 1, rows);
      for (int64_t begin = 0; begin < rows; begin += most) {
        ScoreUnit unit;
        unit.batch = batch;
        unit.position = i;
        unit.begin = begin;
        unit.end = std::min(begin + most, rows);
        unit.context = rows_of(context, unit.begin, unit.end);
        unit.sums.assign(groups.size(),
                         std::vector<double>(static_cast<size_t>(unit.end - unit.begin), 0.0));
        if (s + 1 < stages_) unit.gradients = rows_of(gradients_[i], unit.begin, unit.end);
        units.push_back(std::move(unit));
      }
    }
    return units;
  }

  // As many as are computed at a time.
  size_t wave() const {
    return cluster_.device.is_cuda() ? 1 : static_cast<size_t>(cluster_.pool.threads());
  }

  // Reads the inputs of units [begin, end).
  void fetch(size_t s, std::vector<ScoreUnit>& units, size_t begin, size_t end) const {
    States whole;
    int64_t batch = -1;
    for (size_t u = begin; u < end; ++u) {
      ScoreUnit& unit = units[u];
      if (unit.batch != batch) {
        batch = unit.batch;
        whole = s == 0 ? pass_.states(unit.position) : run_.inputs.read(s, batch, cluster_.device);
      }
      unit.inputs = rows_of(whole, unit.begin, unit.end);
    }
  }

  // Calls body for each wave, as units of their own, whose inputs are there meanwhile.
  template <typename Body>
  void in_waves(size_t s, std::vector<ScoreUnit>& units, const Body& body) const {
    for (size_t begin = 0; begin < units.size(); begin += wave()) {
      const size_t end = std::min(begin + wave(), units.size());
      fetch(s, units, begin, end);
      body(begin, end);
      for (size_t u = begin; u < end; ++u) units[u].inputs = {};
    }
  }

  void for_each(size_t begin, size_t end, const std::function<void(size_t)>& body) const {
    if (cluster_.device.is_cuda()) {
      for (size_t u = begin; u < end; ++u) body(u);
      return;
    }
    cluster_.pool.for_each(static_cast<int64_t>(end - begin),
                           [&](int64_t i) { body(begin + static_cast<size_t>(i)); });
  }

  void score_stage(size_t s, StageLoader& loader) {
    const StageSpec& stage = run_.model.stages()[s];
    const StageGroups groups(run_.space, s);
    cluster_.world.activity().begin_step("load");
    LoadStep step = loader.step();
    LoadedStage loaded = loader.next();
    cluster_.world.activity().begin_step("quantize");
    std::vector<std::optional<CandidateStage>> candidates(run_.plans.size());
    {
      // A stage in parts is read where its weights are asked for.
      const LoadedStage whole(run_.source.stages()[s], run_.source.checkpoint(), cluster_.device,
                              cluster_.pool);
      const LoadedStage& from = step.part.whole() ? loaded : whole;
      for (size_t c = 0; c < candidates.size(); ++c) {
        if (!groups.uses(c)) continue;
        candidates[c].emplace(stage, s, run_.plans[c], from, run_.store, run_.context);
      }
    }
    std::vector<ScoreUnit> units = units_of(s, groups);
    if (stage.kind == StageKind::kHead) {
      pack(candidates, step, loaded);
      score_head(s, groups, candidates, weights_of(loaded, dtype_), units);
    } else {
      score_layer(s, groups, candidates, step, loaded, loader, units);
    }
    reduce(groups, units);
    gather_gradients(units);
  }

  static void pack(std::vector<std::optional<CandidateStage>>& candidates, const LoadStep& step,
                   const LoadedStage& loaded) {
    for (std::optional<CandidateStage>& candidate : candidates) {
      if (candidate) candidate->pack(step.tensors, loaded);
    }
  }

  void score_head(size_t s, const StageGroups& groups,
                  const std::vector<std::optional<CandidateStage>>& candidates,
                  const StageWeights& weights, std::vector<ScoreUnit>& units) {
    cluster_.world.activity().begin_step("backward");
    const HeadLoss head(run_.model, s, groups, candidates, run_.batches, loss_, rule_, cluster_);
    std::vector<double> losses(units.size(), 0.0);
    in_waves(s, units, [&](size_t begin, size_t end) {
      for_each(begin, end, [&](size_t u) { losses[u] = head.go_back(units[u], weights); });
    });
    batch_losses_.assign(run_.batches.size(), 0.0);
    for (size_t u = 0; u < units.size(); ++u) {
      batch_losses_[static_cast<size_t>(units[u].batch)] += losses[u];
    }
  }

  void score_layer(size_t s, const StageGroups& groups,
                   std::vector<std::optional<CandidateStage>>& candidates, LoadStep step,
                   LoadedStage& first, StageLoader& loader, std::vector<ScoreUnit>& units) {
    const LayerBackward layer(run_.model, s, groups, candidates, rule_, cluster_);
    const bool experts = run_.model.stages()[s].experts > 0;
    using Work = LayerBackward::ExpertWork;
    std::vector<Work> work(experts ? units.size() : 0);
    cluster_.world.activity().begin_step("backward");
    if (step.part.whole()) {
      pack(candidates, step, first);
      const StageWeights weights = weights_of(first, dtype_);
      in_waves(s, units, [&](size_t begin, size_t end) {
        for_each(begin, end, [&](size_t u) {
          if (!experts) return;
          work[u] = layer.begin(units[u], weights);
          layer.add_experts(units[u], {}, weights, work[u]);
        });
        finish(layer, units, work, begin, end, weights);
      });
      return;
    }
    {
      const StageWeights weights = weights_of(first, dtype_);
      in_waves(s, units, [&](size_t begin, size_t end) {
        for_each(begin, end, [&](size_t u) { work[u] = layer.begin(units[u], weights); });
      });
    }
    while (true) {
      const LoadStep part = loader.step();
      const LoadedStage loaded = loader.next();
      pack(candidates, part, loaded);
      const StageWeights weights = weights_of(loaded, dtype_);
      if (part.part.first) {
        in_waves(s, units, [&](size_t begin, size_t end) {
          finish(layer, units, work, begin, end, weights);
        });
        return;
      }
      for_each(0, units.size(),
               [&](size_t u) { layer.add_experts(units[u], part.part, weights, work[u]); });
    }
  }

  static void finish(const LayerBackward& layer, std::vector<ScoreUnit>& units,
                     std::vector<LayerBackward::ExpertWork>& work, size_t begin, size_t end,
                     const StageWeights& weights) {
    const auto take = [&](auto& all) {
      std::decay_t<decltype(all)> some;
      for (size_t u = begin; u < end && !all.empty(); ++u) some.push_back(std::move(all[u]));
      return some;
    };
    std::vector<ScoreUnit> some = take(units);
    std::vector<LayerBackward::ExpertWork> of_experts = take(work);
    layer.finish(some, of_experts, weights);
    std::move(some.begin(), some.end(), units.begin() + static_cast<std::ptrdiff_t>(begin));
  }

  // In batch order over all ranks; each sum travels as two floats.
  void reduce(const StageGroups& groups, const std::vector<ScoreUnit>& units) {
    std::map<int64_t, std::vector<double>> of_batch;
    for (const ScoreUnit& unit : units) {
      const std::vector<double> scores = unit.scores(rule_, groups);
      std::vector<double>& sum = of_batch[unit.batch];
      sum.resize(groups.size(), 0.0);
      for (size_t p = 0; p < scores.size(); ++p) sum[p] += scores[p];
    }
    const bool head = !batch_losses_.empty();
    const size_t width = groups.size() + (head ? 1 : 0);
    BatchOrderedSums all(static_cast<int64_t>(2 * width), std::ssize(run_.batches),
                         cluster_.control);
    for (auto& [batch, sum] : of_batch) {
      if (head) sum.push_back(batch_losses_[static_cast<size_t>(batch)]);
      all.set(batch, as_pairs(sum));
    }
    sums_ = from_pairs(all.reduce(cluster_.control));
    batch_losses_.clear();
  }

  void gather_gradients(std::vector<ScoreUnit>& units) {
    std::vector<std::vector<States>> parts(gradients_.size());
    std::vector<int64_t> rows(gradients_.size(), 1);
    for (ScoreUnit& unit : units) {
      if (unit.begin == 0) rows[unit.position] = unit.end;
      parts[unit.position].push_back(std::move(unit.gradients));
    }
    for (size_t i = 0; i < parts.size(); ++i) gradients_[i] = join_rows(parts[i], rows[i]);
  }

  void finish_step(size_t step, size_t s, size_t count) {
    journal_.open_stage(step);
    std::vector<States> kept = gradients_;
    for (States& states : kept) {
      // What has no gradient is stored as nothing.
      if (!states.x.defined()) states.x = at::empty({0}, at::TensorOptions(dtype_));
    }
    pass_.restore(std::move(kept));
    journal_.finish_stage(step, {{"stage", s}, {"sums", sums_}}, pass_, count, [] {});
  }

  // Rank 0 has what earlier runs found.
  ScoreResult collect(size_t count) const {
    Json all = Json::array();
    if (cluster_.control.rank() == 0) {
      for (size_t step = 0; step < count; ++step) all.push_back(journal_.records_of(step));
    }
    all = Json::parse(broadcast_text(cluster_.control, all.dump(), 0));
    ScoreResult result{no_scores(run_.space)};
    const double tokens = static_cast<double>(all_tokens());
    for (const Json& record : all) {
      const auto s = record.at("stage").get<size_t>();
      const auto sums = record.at("sums").get<std::vector<double>>();
      const StageGroups groups(run_.space, s);
      for (size_t g = 0; g < groups.groups.size(); ++g) {
        const LinearGroup& group = *groups.groups[g];
        const auto at = static_cast<size_t>(groups.groups[g] - run_.space.groups.data());
        for (size_t i = 0; i < group.candidates.size(); ++i) {
          if (group.candidates[i] >= groups.candidates) continue;
          const double sum = sums.at(groups.place(g, group.candidates[i]));
          // Half the square of the first-order change of a sequence's loss is the second-order
          // change of its divergence from the unquantized model.
          result.scores[at][i] = rule_ == ScoreRule::kRows ? 0.5 * sum / tokens : sum;
        }
      }
      if (s + 1 == stages_) result.loss = sums.at(groups.size()) / tokens;
    }
    return result;
  }

  int64_t all_tokens() const {
    int64_t tokens = 0;
    for (size_t b = 0; b < run_.batches.size(); ++b) {
      tokens += predicted_tokens(pass_.context(static_cast<int64_t>(b)), loss_.count_padding);
    }
    return tokens;
  }

  const ScoreRun& run_;
  LossOptions loss_;
  ScoreRule rule_;
  RunJournal& journal_;
  Cluster cluster_;
  at::ScalarType dtype_;
  size_t stages_;
  size_t first_;
  BatchPass pass_;
  std::vector<States> gradients_;     // of this rank's batches, of the stage's outputs
  std::vector<double> batch_losses_;  // of this rank's, behind the head alone
  std::vector<double> sums_;          // of the stage's scores and, of the head, the losses
};

}  // namespace

std::vector<std::string> gradient_steps(const Model& model, const SearchSpace& space) {
  std::vector<std::string> names;
  for (size_t s = model.stages().size(); s-- > first_scored(space);) {
    names.push_back(model.stages()[s].name);
  }
  return names;
}

ScoreResult score_by_gradients(const ScoreRun& run, const LossOptions& loss, ScoreRule rule,
                               RunJournal& journal) {
  return GradientPass(run, loss, rule, journal).run();
}

}  // namespace halftone
