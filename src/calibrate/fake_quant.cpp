#include "calibrate/fake_quant.h"

#include <ATen/ATen.h>

namespace halftone {

at::Tensor FakeQuantRunner::linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                                   const at::Tensor& bias_N) {
  const Codec* codec = stage_.codecs[site];
  if (codec == nullptr || !stage_.input_amax[site]) return at::linear(x_BTK, w_NK, bias_N);
  return at::linear(codec->fake_quantize_input(x_BTK, *stage_.input_amax[site]), w_NK, bias_N);
}

std::pair<at::Tensor, at::Tensor> FakeQuantRunner::key_value(size_t site, at::Tensor k_BHTD,
                                                             at::Tensor v_BHTD) {
  const auto [key_amax, value_amax] = stage_.kv_amax[site];
  return {fake_quantize_kv(stage_.kv[site], k_BHTD, key_amax),
          fake_quantize_kv(stage_.kv[site], v_BHTD, value_amax)};
}

}  // namespace halftone
