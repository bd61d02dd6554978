#include "model/blocks.h"

#include <ATen/ATen.h>

namespace halftone {
namespace {

at::Tensor normalized(const at::Tensor& wide, double epsilon) {
  return wide * at::rsqrt(wide.pow(2).mean(-1, /*keepdim=*/true) + epsilon);
}

// [B, keys]: is the position a real token?
at::Tensor real_positions(const BatchContext& batch) {
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  at::Tensor real_BK = at::zeros({rows, batch.past + batch.length}, at::kBool);
  for (int64_t row = 0; row < rows; ++row) {
    const TokenRange& range = batch.tokens[static_cast<size_t>(row)];
    real_BK[row].slice(0, range.begin, range.end).fill_(true);
  }
  return real_BK;
}

// [B, keys], or [1, keys] without padding: the chunk of each position.
at::Tensor chunks(const BatchContext& batch, int64_t chunk) {
  const at::Tensor positions_K = at::arange(batch.past + batch.length, at::kLong);
  std::vector<int64_t> begins = {0};
  if (batch.padded) {
    begins.clear();
    for (const TokenRange& range : batch.tokens) begins.push_back(range.begin);
  }
  const at::Tensor begins_B1 = at::tensor(begins, at::kLong).unsqueeze(1);
  return at::div(positions_K.unsqueeze(0) - begins_B1, chunk, "floor");
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight_H, double epsilon) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor variance = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight_H * (wide * at::rsqrt(variance + epsilon)).to(x.scalar_type());
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight_H, const at::Tensor& bias_H,
                      double epsilon) {
  return at::layer_norm(x, {x.size(-1)}, weight_H, bias_H, epsilon);
}

at::Tensor Norm::operator()(const at::Tensor& x, const StageWeights& weights) const {
  if (weight.empty()) return x;
  const at::Tensor& weight_H = weights.at(weight);
  switch (kind) {
    case NormKind::kRms:
      break;
    case NormKind::kRmsWide:
      return (weight_H * normalized(x.to(at::kFloat), epsilon)).to(x.scalar_type());
    case NormKind::kRmsPlusOne:
      return (normalized(x.to(at::kFloat), epsilon) * (1.0 + weight_H.to(at::kFloat)))
          .to(x.scalar_type());
    case NormKind::kLayer:
      return layer_norm(x, weight_H, weights.get(bias), epsilon);
  }
  return rms_norm(x, weight_H, epsilon);
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      break;
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kRelu:
      return at::relu(x);
  }
  return at::silu(x);
}

at::Tensor attention_mask(const BatchContext& batch, at::Device device,
                          const AttentionReach& reach) {
  const int64_t keys = batch.past + batch.length;
  const bool windowed = reach.window > 0 && reach.window < keys;
  const bool chunked = reach.chunk > 0 && reach.chunk < keys;
  const bool continued = batch.past > 0 && batch.length > 1;
  if (!batch.padded && !windowed && !chunked && !continued) return {};
  at::Tensor seen =
      at::ones({1, 1, batch.length, keys}, at::TensorOptions(at::kBool).device(device))
          .tril(batch.past);
  if (windowed) seen = seen.logical_and(seen.triu(batch.past + 1 - reach.window));
  if (chunked) {
    const at::Tensor of_keys_BK = chunks(batch, reach.chunk).to(device);
    const at::Tensor of_queries_BT = of_keys_BK.slice(1, batch.past);
    seen = seen.logical_and((of_queries_BT.unsqueeze(2) == of_keys_BK.unsqueeze(1)).unsqueeze(1));
  }
  if (!batch.padded) return seen;
  return seen.logical_and(real_positions(batch).to(device).unsqueeze(1).unsqueeze(1));
}

at::Tensor attention(const at::Tensor& q_BHTD, const at::Tensor& k_BGTD, const at::Tensor& v_BGTD,
                     const at::Tensor& mask, double scale) {
  const bool grouped = q_BHTD.size(1) != k_BGTD.size(1);
  const bool masked = mask.defined();
  const bool causal = !masked && q_BHTD.size(2) > 1;
  const at::Tensor attended = at::scaled_dot_product_attention(
      q_BHTD, k_BGTD, v_BGTD, masked ? std::optional<at::Tensor>(mask) : std::nullopt,
      /*dropout_p=*/0.0, causal, scale, grouped);
  if (!masked || mask.scalar_type() != at::kBool) return attended;
  // Some of CUDA's kernels give the mean of all values to a query that sees nothing, others 0.
  return attended.masked_fill(mask.any(-1, /*keepdim=*/true).logical_not(), 0.0);
}

at::Tensor attention_with_sinks(const at::Tensor& q_BHTD, const at::Tensor& k_BGTD,
                                const at::Tensor& v_BGTD, const at::Tensor& mask, double scale,
                                const at::Tensor& sinks_H) {
  // The sink becomes a key in front of the others, seen by all queries, whose value is 0: queries
  // have a further dimension that holds the sink and that is 1 in that key and 0 in the others. A
  // query in front of the others keeps the triangle of causal attention.
  const auto in_front = [](const at::Tensor& x) { return at::constant_pad_nd(x, {0, 0, 1, 0}); };
  const int64_t extra = 8;  // kernels ask for multiples of 8
  const int64_t dim = q_BHTD.size(3);
  at::Tensor q = at::constant_pad_nd(q_BHTD, {0, extra, 1, 0});
  at::Tensor k = at::constant_pad_nd(k_BGTD, {0, extra, 1, 0});
  q.select(-1, dim).copy_((sinks_H / scale).unsqueeze(0).unsqueeze(2));
  k.select(2, 0).select(-1, dim).fill_(1.0);
  at::Tensor wider = mask;
  if (!mask.defined() && q_BHTD.size(2) < k_BGTD.size(2)) {
    // A single query that sees all keys: no triangle.
    wider = at::ones({1, 1, q_BHTD.size(2), k_BGTD.size(2)},
                     at::TensorOptions(at::kBool).device(q_BHTD.device()));
  }
  if (wider.defined()) {
    wider = at::constant_pad_nd(wider, {1, 0, 1, 0});
    wider.select(-1, 0).fill_(true);
  }
  return attention(q, k, in_front(v_BGTD), wider, scale).slice(2, 1);
}

}  // namespace halftone
