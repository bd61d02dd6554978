// Scores by forward passes alone (calibration.md, 9.5): the divergence of the model with one group
// quantized from the unquantized one. Several such variants go through the stages together, each
// from its group's stage on, whose input is that of the unquantized model.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/progress.h"
#include "dist/agreement.h"
#include "dist/reductions.h"
#include "engine/calibration_pass.h"
#include "formats/tensor_bridge.h"
#include "search/runners.h"
#include "search/score_pass.h"

namespace halftone {
namespace {

// Logits of a piece take at most about this much in F32.
constexpr int64_t kLogitBytes = 32 << 20;
// The states of all variants that a rank takes through the stages at a time: beside them there are
// two stages, and a further pass reads the stages once more.
constexpr int64_t kStateBytes = int64_t{256} << 20;

// One group quantized to one candidate.
struct Variant {
  size_t group = 0;
  size_t candidate = 0;
};

std::vector<Variant> variants_of(const SearchSpace& space) {
  std::vector<Variant> variants;
  for (size_t g = 0; g < space.groups.size(); ++g) {
    if (!space.groups[g].is_searched()) continue;
    for (const size_t c : space.groups[g].candidates) {
      if (c < space.none()) variants.push_back({g, c});
    }
  }
  return variants;
}

// How many variants go together: the same for any number of ranks.
size_t variants_at_a_time(const Model& model, const std::vector<Batch>& batches,
                          at::ScalarType dtype) {
  int64_t positions = 1;
  for (const Batch& batch : batches) {
    positions += batch.rows * (batch.length + (batch.encoder ? batch.encoder->length : 0));
  }
  const int64_t bytes =
      positions * model.hidden_size() * static_cast<int64_t>(at::elementSize(dtype));
  return static_cast<size_t>(std::clamp<int64_t>(kStateBytes / bytes, 1, 64));
}

class KlPass {
 public:
  KlPass(const ScoreRun& run, RunJournal& journal)
      : run_(run),
        journal_(journal),
        cluster_(run.context.cluster),
        dtype_(scalar_type_of(run.context.compute_dtype)),
        stages_(run.model.stages().size()),
        variants_(variants_of(run.space)),
        together_(variants_at_a_time(run.model, run.batches, dtype_)),
        pass_(run.model, run.batches, {dtype_, run.count_padding}, cluster_) {}

  ScoreResult run() {
    const size_t count = (variants_.size() + together_ - 1) / together_;
    const ResumePlan plan = journal_.plan(0, /*can_replay=*/false, pass_.mine());
    Progress progress("score", static_cast<int64_t>(count),
                      run_.show_progress && cluster_.world.rank() == 0);
    for (size_t chunk = 0; chunk < count; ++chunk) {
      if (plan.action(chunk) == StageAction::kSkip) continue;
      const size_t begin = chunk * together_;
      const size_t end = std::min(begin + together_, variants_.size());
      const std::vector<double> sums = score(begin, end);
      journal_.open_stage(chunk);
      journal_.finish_stage(chunk, {{"sums", sums}}, pass_, 0, [] {});
      progress.step(static_cast<int64_t>(chunk) + 1, concat("variants ", begin, " to ", end - 1),
                    bytes_read_);
    }
    return collect(count);
  }

 private:
  const LinearGroup& group(size_t v) const { return run_.space.groups[variants_[v].group]; }

  // Variants [begin, end) through all stages behind the first one's.
  std::vector<double> score(size_t begin, size_t end) {
    const size_t first = group(begin).stage;
    std::vector<LoadStep> steps = plan_loads(run_.source.stages(), run_.stage_limit);
    std::erase_if(steps, [&](const LoadStep& step) { return step.stage < first; });
    StageLoader loader(run_.source.checkpoint(), steps, cluster_, run_.held);
    const size_t batches = pass_.mine().size();
    // [batch of this rank][variant]
    std::vector<std::vector<States>> states(batches, std::vector<States>(end - begin));
    std::vector<std::vector<double>> sums(batches, std::vector<double>(end - begin, 0.0));
    std::vector<std::optional<CandidateStage>> candidates;
    for (size_t i = 0; i < steps.size(); ++i) {
      const LoadStep step = loader.step();
      const size_t s = step.stage;
      cluster_.world.activity().begin_stage("score " + run_.model.stages()[s].name);
      const LoadedStage loaded = loader.next();
      if (step.part.first) candidates = solve(s, begin, end, step, loaded);
      for (std::optional<CandidateStage>& candidate : candidates) {
        if (candidate) candidate->pack(step.tensors, loaded);
      }
      const StageWeights weights = weights_of(loaded, dtype_);
      pass_.for_each_batch([&](int64_t batch, size_t position) {
        if (run_.model.stages()[s].kind == StageKind::kHead) {
          diverge(s, begin, candidates, weights, batch, states[position], sums[position]);
          return;
        }
        for (size_t v = begin; v < end; ++v) {
          advance(step, v, candidates, weights, batch, states[position][v - begin]);
        }
      });
      run_.budget.check_peaks(cluster_.device);
      release_free_memory();
    }
    bytes_read_ += loader.bytes_read();
    return reduce(sums, end - begin);
  }

  // The candidates of variants that begin in this stage.
  std::vector<std::optional<CandidateStage>> solve(size_t s, size_t begin, size_t end,
                                                   const LoadStep& step,
                                                   const LoadedStage& loaded) const {
    std::vector<std::optional<CandidateStage>> candidates(run_.plans.size());
    const LoadedStage whole(run_.source.stages()[s], run_.source.checkpoint(), cluster_.device,
                            cluster_.pool);
    for (size_t v = begin; v < end; ++v) {
      const size_t c = variants_[v].candidate;
      if (group(v).stage != s || candidates[c]) continue;
      candidates[c].emplace(run_.model.stages()[s], s, run_.plans[c],
                            step.part.whole() ? loaded : whole, run_.store, run_.context);
    }
    return candidates;
  }

  void advance(const LoadStep& step, size_t v,
               const std::vector<std::optional<CandidateStage>>& candidates,
               const StageWeights& weights, int64_t batch, States& states) const {
    const size_t s = step.stage;
    if (group(v).stage > s) return;
    const bool begins = group(v).stage == s;
    if (begins && step.part.first) {
      const auto position = std::find(pass_.mine().begin(), pass_.mine().end(), batch);
      states = s == 0 ? pass_.states(static_cast<size_t>(position - pass_.mine().begin()))
                      : run_.inputs.read(s, batch, cluster_.device);
    }
    CandidateRunner runner(begins ? &*candidates[variants_[v].candidate] : nullptr, group(v));
    states =
        run_.model.forward(s, step.part, weights, std::move(states), pass_.context(batch), runner);
  }

  // The divergence of every variant's logits from the unquantized model's.
  void diverge(size_t head, size_t begin,
               const std::vector<std::optional<CandidateStage>>& candidates,
               const StageWeights& weights, int64_t batch, const std::vector<States>& states,
               std::vector<double>& sums) const {
    const BatchContext& context = pass_.context(batch);
    const at::Tensor inputs_BTH = run_.inputs.read(head, batch, cluster_.device).x;
    const int64_t piece = std::max<int64_t>(1, kLogitBytes / (4 * run_.model.vocabulary()));
    for (size_t row = 0; row < context.tokens.size(); ++row) {
      TokenRange range = context.tokens[row];
      if (run_.count_padding) range = {0, context.length};
      for (int64_t from = range.begin; from < range.end; from += piece) {
        const int64_t to = std::min(from + piece, range.end);
        const auto logs_of = [&](const at::Tensor& x_BTH, LinearRunner& runner) {
          const at::Tensor x =
              x_BTH.slice(0, static_cast<int64_t>(row), static_cast<int64_t>(row) + 1)
                  .slice(1, from, to);
          const at::Tensor logits =
              run_.model.forward(head, {}, weights, {x, {}}, context, runner).x;
          return at::log_softmax(logits.to(at::kFloat), -1);
        };
        PlainRunner plain;
        const at::Tensor logs = logs_of(inputs_BTH, plain);
        const at::Tensor shares = logs.exp();
        for (size_t v = 0; v < states.size(); ++v) {
          const bool here = group(begin + v).stage == head;
          const size_t c = variants_[begin + v].candidate;
          CandidateRunner runner(here ? &*candidates[c] : nullptr, group(begin + v));
          const at::Tensor other = logs_of(here ? inputs_BTH : states[v].x, runner);
          sums[v] += (shares * (logs - other)).sum(at::kDouble).item<double>();
        }
      }
    }
  }

  std::vector<double> reduce(const std::vector<std::vector<double>>& sums, size_t width) const {
    BatchOrderedSums all(static_cast<int64_t>(2 * width), std::ssize(run_.batches),
                         cluster_.control);
    for (size_t i = 0; i < sums.size(); ++i) all.set(pass_.mine()[i], as_pairs(sums[i]));
    return from_pairs(all.reduce(cluster_.control));
  }

  ScoreResult collect(size_t count) const {
    Json all = Json::array();
    if (cluster_.control.rank() == 0) {
      for (size_t chunk = 0; chunk < count; ++chunk) {
        const Json record = journal_.records_of(chunk);
        for (const Json& sum : record.at("sums")) all.push_back(sum);
      }
    }
    all = Json::parse(broadcast_text(cluster_.control, all.dump(), 0));
    ScoreResult result{no_scores(run_.space)};
    double tokens = 0.0;
    for (size_t b = 0; b < run_.batches.size(); ++b) {
      const BatchContext& context = pass_.context(static_cast<int64_t>(b));
      for (const TokenRange& range : context.tokens) {
        tokens +=
            static_cast<double>(run_.count_padding ? context.length : range.end - range.begin);
      }
    }
    for (size_t v = 0; v < variants_.size(); ++v) {
      const auto sum = all.at(v).is_number() ? all.at(v).get<double>() : NAN;
      if (!std::isfinite(sum)) {
        throw InputError(concat("the model's logits are NaN or infinite with '", group(v).name,
                                "' in ", run_.space.candidates[variants_[v].candidate].name,
                                ": it overflows in this --dtype, or its weights are damaged"));
      }
      const auto& able = group(v).candidates;
      const auto at = std::find(able.begin(), able.end(), variants_[v].candidate) - able.begin();
      result.scores[variants_[v].group][static_cast<size_t>(at)] = sum / tokens;
    }
    return result;
  }

  const ScoreRun& run_;
  RunJournal& journal_;
  Cluster cluster_;
  at::ScalarType dtype_;
  size_t stages_;
  std::vector<Variant> variants_;
  size_t together_;
  BatchPass pass_;
  int64_t bytes_read_ = 0;
};

}  // namespace

std::vector<std::string> kl_steps(const ScoreRun& run) {
  const size_t together =
      variants_at_a_time(run.model, run.batches, scalar_type_of(run.context.compute_dtype));
  const size_t variants = variants_of(run.space).size();
  std::vector<std::string> steps;
  for (size_t begin = 0; begin < variants; begin += together) {
    steps.push_back(concat("variants from ", begin, " on"));
  }
  return steps;
}

ScoreResult score_by_divergence(const ScoreRun& run, RunJournal& journal) {
  return KlPass(run, journal).run();
}

}  // namespace halftone
