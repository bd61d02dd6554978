#include "model/linear_runner.h"

#include <ATen/ATen.h>

namespace halftone {

at::Tensor PlainRunner::linear(size_t /*site*/, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                               const at::Tensor& bias_N) {
  return at::linear(x_BTK, w_NK, bias_N);
}

std::pair<at::Tensor, at::Tensor> PlainRunner::key_value(size_t /*site*/, at::Tensor k_BHTD,
                                                         at::Tensor v_BHTD) {
  return {std::move(k_BHTD), std::move(v_BHTD)};
}

}  // namespace halftone
