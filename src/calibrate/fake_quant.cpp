#include "calibrate/fake_quant.h"

#include <ATen/ATen.h>

namespace halftone {

StageFakeQuant make_fake_quant(const std::vector<LinearFormat>& formats,
                               const std::vector<KvFormat>& kv, const StageSolution& solution,
                               at::ScalarType dtype, at::Device device) {
  const auto placed = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(device, dtype) : tensor;
  };
  StageFakeQuant stage{{}, kv, solution.caches};
  for (size_t i = 0; i < formats.size(); ++i) {
    LinearFakeQuant linear;
    if (formats[i].quantized()) {
      const LinearSolution& solved = solution.linears[i];
      linear = {formats[i].input.kind, solved.input_amax.value_or(0.0f),
                placed(solved.pre_quant_scale_K), placed(solved.low_rank_a_RK),
                placed(solved.low_rank_b_NR)};
    }
    stage.linears.push_back(std::move(linear));
  }
  return stage;
}

at::Tensor FakeQuantRunner::linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                                   const at::Tensor& bias_N) {
  const LinearFakeQuant& linear = stage_.linears[site];
  const at::Tensor x =
      linear.pre_quant_scale_K.defined() ? x_BTK * linear.pre_quant_scale_K : x_BTK;
  const at::Tensor y =
      at::linear(fake_quantize_input(linear.input, x, linear.input_amax), w_NK, bias_N);
  if (!linear.low_rank_a_RK.defined()) return y;
  return y + at::linear(at::linear(x, linear.low_rank_a_RK), linear.low_rank_b_NR);
}

std::pair<at::Tensor, at::Tensor> FakeQuantRunner::key_value(size_t site, at::Tensor k_BHTD,
                                                             at::Tensor v_BHTD) {
  const CacheSolution& cache = stage_.caches[site];
  return {fake_quantize_kv(stage_.kv[site], true, k_BHTD, cache.key),
          fake_quantize_kv(stage_.kv[site], false, v_BHTD, cache.value)};
}

}  // namespace halftone
