#pragma once

#include <optional>
#include <vector>

#include "calibrate/solution.h"
#include "formats/kv_cache.h"
#include "model/linear_runner.h"

namespace halftone {

// How one linear computes when it is served. Weights are quantized where they are loaded; this is
// about what happens to its input.
struct LinearFakeQuant {
  InputKind input = InputKind::kNone;
  float input_amax = 0.0f;
  at::Tensor pre_quant_scale_K;  // in the compute dtype; undefined: none
  at::Tensor low_rank_a_RK;      // in the compute dtype; undefined: none
  at::Tensor low_rank_b_NR;
};

struct StageFakeQuant {
  std::vector<LinearFakeQuant> linears;
  std::vector<KvFormat> kv;           // per attention
  std::vector<CacheSolution> caches;  // per attention
};

StageFakeQuant make_fake_quant(const std::vector<LinearFormat>& formats,
                               const std::vector<KvFormat>& kv, const StageSolution& solution,
                               at::ScalarType dtype, at::Device device);

// y = Q(x s) W^T + ((x s) A^T) B^T + b (formats-and-hf-export.md, 3.2); keys and values as the
// cache gives them back.
class FakeQuantRunner : public LinearRunner {
 public:
  explicit FakeQuantRunner(const StageFakeQuant& stage) : stage_(stage) {}

  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override;
  std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                              at::Tensor v_BHTD) override;

 private:
  const StageFakeQuant& stage_;
};

}  // namespace halftone
