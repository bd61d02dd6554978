#include "model/routers.h"

#include <ATen/ATen.h>

#include <limits>

namespace halftone {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Routing softmax_over_all(const RouterSpec& router, const at::Tensor& logits_TE) {
  const at::Tensor shares_TE = at::softmax(logits_TE, -1);
  auto [weights_TK, ids_TK] = at::topk(shares_TE, router.top_k, -1);
  return {ids_TK, weights_TK, shares_TE};
}

// The experts of all but the best groups at minus infinity; a group counts as its two best.
at::Tensor mask_groups(const RouterSpec& router, const at::Tensor& ranking_TE) {
  if (router.groups == 1) return ranking_TE;
  const at::Tensor grouped = ranking_TE.view({ranking_TE.size(0), router.groups, -1});
  const at::Tensor strength_TG = std::get<0>(grouped.topk(2, -1)).sum(-1);
  const at::Tensor kept = std::get<1>(strength_TG.topk(router.kept_groups, -1));
  const at::Tensor dropped_TG =
      at::ones_like(strength_TG, at::kBool).scatter(1, kept, false).unsqueeze(-1);
  return grouped.masked_fill(dropped_TG, -kInfinity).view(ranking_TE.sizes());
}

Routing sigmoid_groups(const RouterSpec& router, const at::Tensor& logits_TE,
                       const at::Tensor& correction_E) {
  const at::Tensor scores_TE = logits_TE.sigmoid();
  const at::Tensor ranking_TE = correction_E.defined() ? scores_TE + correction_E : scores_TE;
  const at::Tensor ids_TK = std::get<1>(mask_groups(router, ranking_TE).topk(router.top_k, -1));
  return {ids_TK, scores_TE.gather(1, ids_TK), ranking_TE};
}

// One of the sparse mixer's two steps. `candidates` are the logits with what is already chosen at
// minus infinity; an expert counts if it is close enough to the best of them.
std::pair<at::Tensor, at::Tensor> mix(const at::Tensor& logits_TE, const at::Tensor& candidates,
                                      double jitter) {
  const auto [best, id] = candidates.max(-1, /*keepdim=*/true);
  const at::Tensor distance = (best - logits_TE) / at::maximum(logits_TE.abs(), best);
  const at::Tensor shares =
      at::softmax(candidates.masked_fill(distance > 2.0 * jitter, -kInfinity), -1);
  return {id, shares.gather(-1, id)};
}

Routing sparse_mixer(const RouterSpec& router, const at::Tensor& logits_TE) {
  const auto [first, first_weight] = mix(logits_TE, logits_TE, router.jitter);
  const auto [second, second_weight] =
      mix(logits_TE, logits_TE.scatter(1, first, -kInfinity), router.jitter);
  return {at::cat({first, second}, 1), at::cat({first_weight, second_weight}, 1), logits_TE};
}

Routing choose(const RouterSpec& router, const at::Tensor& logits_TE,
               const at::Tensor& correction_E) {
  using Kind = RouterSpec::Kind;
  if (router.kind == Kind::kSoftmax) return softmax_over_all(router, logits_TE);
  if (router.kind == Kind::kSigmoidGroups) return sigmoid_groups(router, logits_TE, correction_E);
  if (router.kind == Kind::kSparseMixer) return sparse_mixer(router, logits_TE);
  const auto [best_TK, ids_TK] = at::topk(logits_TE, router.top_k, -1);
  const bool softmax = router.kind == Kind::kSoftmaxOfChosen;
  return {ids_TK, softmax ? at::softmax(best_TK, -1) : best_TK.sigmoid(), logits_TE};
}

}  // namespace

bool routes_in_fp32(const RouterSpec& router) {
  return router.kind == RouterSpec::Kind::kSigmoidGroups;
}

Routing route(const RouterSpec& router, const at::Tensor& logits_TE,
              const at::Tensor& correction_E) {
  Routing routing = choose(router, logits_TE.to(at::kFloat), correction_E);
  at::Tensor& weights_TK = routing.weights_TK;
  if (router.renormalize) weights_TK = weights_TK / (weights_TK.sum(-1, /*keepdim=*/true) + 1e-20);
  if (router.scaling != 1.0) weights_TK = weights_TK * router.scaling;
  return routing;
}

Routing widen(const RouterSpec& router, const Routing& routing, int64_t count) {
  const int64_t more = std::min(count, router.experts) - routing.ids_TK.size(1);
  if (more <= 0) return routing;
  const at::Tensor rest_TE = routing.ranking_TE.scatter(1, routing.ids_TK, -kInfinity);
  const auto [ranking, ids] = rest_TE.topk(more, -1);
  const bool weighs_input = router.kind == RouterSpec::Kind::kSigmoidOfLogit;
  const at::Tensor weights = weighs_input ? ranking.sigmoid() : at::zeros_like(ranking);
  return {at::cat({routing.ids_TK, ids}, 1), at::cat({routing.weights_TK, weights}, 1),
          routing.ranking_TE};
}

}  // namespace halftone
