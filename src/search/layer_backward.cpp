#include "search/layer_backward.h"

#include <ATen/ATen.h>

#include "search/gradients.h"
#include "search/runners.h"

namespace halftone {
namespace {

constexpr StagePart kWhole = {};
constexpr StagePart kBeforeExperts = {true, false, 0, 0};
constexpr StagePart kBehindExperts = {false, true, 0, 0};

at::Tensor plus(const at::Tensor& sum, const at::Tensor& more) {
  if (!more.defined()) return sum;
  return sum.defined() ? sum + more : more;
}

}  // namespace

LayerBackward::LayerBackward(const Model& model, size_t stage, const StageGroups& groups,
                             const std::vector<std::optional<CandidateStage>>& candidates,
                             ScoreRule rule, const Cluster& cluster)
    : model_(model),
      stage_(stage),
      groups_(groups),
      candidates_(candidates),
      rule_(rule),
      cluster_(cluster) {}

void LayerBackward::for_each(size_t count, const std::function<void(size_t)>& body) const {
  if (cluster_.device.is_cuda()) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  cluster_.pool.for_each(static_cast<int64_t>(count),
                         [&](int64_t i) { body(static_cast<size_t>(i)); });
}

LayerBackward::ExpertWork LayerBackward::begin(const ScoreUnit& unit,
                                               const StageWeights& weights) const {
  PlainRunner plain;
  ExpertWork work;
  work.begun =
      model_.forward(stage_, kBeforeExperts, weights, unit.inputs, unit.context, plain).experts;
  work.sum_TH = work.begun.sum_TH;
  work.candidate_sums.assign(candidates_.size(), work.begun.sum_TH);
  // What is behind the experts is linear, so that its gradients need no experts.
  States states;
  states.experts = work.begun;
  ExpertStates& cut = states.experts;
  cut.sum_TH = as_leaf(cut.sum_TH);
  cut.residual_BTH = as_leaf(cut.residual_BTH);
  cut.shared_BTH = as_leaf(cut.shared_BTH);
  const std::vector<at::Tensor> leaves{cut.sum_TH, cut.residual_BTH, cut.shared_BTH};
  const States behind =
      model_.forward(stage_, kBehindExperts, weights, states, unit.context, plain);
  const std::vector<at::Tensor> gradients = gradients_of({behind.x}, {unit.gradients.x}, leaves);
  work.d_sum = gradients[0];
  work.d_residual = gradients[1];
  work.d_shared = gradients[2];
  return work;
}

void LayerBackward::add_experts(const ScoreUnit& unit, const StagePart& part,
                                const StageWeights& weights, ExpertWork& work) const {
  const StagePart experts{false, false, part.expert_begin, part.expert_end};
  const auto sum_of = [&](const ExpertStates& from, LinearRunner& runner) {
    States states;
    states.experts = from;
    return model_.forward(stage_, experts, weights, states, unit.context, runner).experts.sum_TH;
  };
  ExpertStates cut = work.begun;
  cut.x_TH = as_leaf(cut.x_TH);
  cut.weights_TK = as_leaf(cut.weights_TK);
  PlainRunner plain;
  const at::Tensor sum_TH = sum_of(cut, plain);
  const std::vector<at::Tensor> gradients =
      gradients_of({sum_TH}, {work.d_sum}, {cut.x_TH, cut.weights_TK});
  work.d_x = plus(work.d_x, gradients[0]);
  work.d_weights = plus(work.d_weights, gradients[1]);
  work.sum_TH = work.sum_TH + sum_TH.detach();
  for (const LinearGroup* group : groups_.groups) {
    if (!group->experts) continue;
    for (const size_t c : group->candidates) {
      if (c >= groups_.candidates) continue;
      CandidateRunner served(&*candidates_[c], *group);
      work.candidate_sums[c] = work.candidate_sums[c] + sum_of(work.begun, served);
    }
  }
}

LayerBackward::Tapped LayerBackward::go_back(ScoreUnit& unit, const ExpertWork* work,
                                             const StageWeights& weights) const {
  TapRunner taps(model_.stages()[stage_].linears.size());
  States inputs = unit.inputs;
  inputs.x = as_leaf(inputs.x);
  inputs.encoder = as_leaf(inputs.encoder);
  std::vector<at::Tensor> leaves{inputs.x, inputs.encoder};
  const StagePart part = work == nullptr ? kWhole : kBeforeExperts;
  const States out = model_.forward(stage_, part, weights, inputs, unit.context, taps);
  leaves.insert(leaves.end(), taps.outputs.begin(), taps.outputs.end());
  std::vector<at::Tensor> ends{out.encoder};
  std::vector<at::Tensor> given{unit.gradients.encoder};
  if (work == nullptr) {
    ends.push_back(out.x);
    given.push_back(unit.gradients.x);
  } else {
    const ExpertStates& begun = out.experts;
    ends.insert(ends.end(), {begun.x_TH, begun.weights_TK, begun.residual_BTH, begun.shared_BTH});
    given.insert(given.end(), {work->d_x, work->d_weights, work->d_residual, work->d_shared});
  }
  const std::vector<at::Tensor> gradients = gradients_of(ends, given, leaves);
  unit.gradients = {gradients[0], gradients[1]};
  Tapped tapped{std::move(taps.inputs), {}, {gradients.begin() + 2, gradients.end()}};
  for (const at::Tensor& output : taps.outputs) {
    tapped.outputs.push_back(output.defined() ? output.detach() : output);
  }
  return tapped;
}

void LayerBackward::score_experts(ScoreUnit& unit, const ExpertWork& work) const {
  const at::ScalarType dtype = work.begun.residual_BTH.scalar_type();
  for (size_t g = 0; g < groups_.groups.size(); ++g) {
    const LinearGroup& group = *groups_.groups[g];
    if (!group.experts) continue;
    for (const size_t c : group.candidates) {
      if (c >= groups_.candidates) continue;
      unit.add(rule_, groups_.place(g, c), work.d_sum.to(dtype), work.sum_TH.to(dtype),
               work.candidate_sums[c].to(dtype), work.begun.positions_T);
    }
  }
}

void LayerBackward::finish(std::vector<ScoreUnit>& units, std::vector<ExpertWork>& work,
                           const StageWeights& weights) const {
  std::vector<Tapped> tapped(units.size());
  for_each(units.size(), [&](size_t u) {
    const ExpertWork* mine = work.empty() ? nullptr : &work[u];
    tapped[u] = go_back(units[u], mine, weights);
    if (mine != nullptr) score_experts(units[u], *mine);
  });
  const StageSpec& stage = model_.stages()[stage_];
  for (size_t g = 0; g < groups_.groups.size(); ++g) {
    const LinearGroup& group = *groups_.groups[g];
    if (group.experts) continue;
    for (const size_t i : group.linears) {
      const at::Tensor bias_N = weights.get(stage.linears[i].bias);
      for (const size_t c : group.candidates) {
        if (c >= groups_.candidates) continue;
        const at::Tensor w_NK = candidates_[c]->weight(i, &cluster_.pool);
        for_each(units.size(), [&](size_t u) {
          const at::Tensor y = candidates_[c]->run(i, tapped[u].inputs[i], w_NK, bias_N);
          units[u].add(rule_, groups_.place(g, c), tapped[u].gradients[i], tapped[u].outputs[i], y,
                       {});
        });
      }
    }
  }
}

}  // namespace halftone
