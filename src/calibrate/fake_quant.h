#pragma once

#include <optional>
#include <vector>

#include "formats/codec.h"
#include "formats/kv_cache.h"
#include "model/linear_runner.h"

namespace halftone {

// How the linears and the cache of a stage compute when they are quantized. Weights are quantized
// where they are loaded; this is about what happens to activations.
struct StageFakeQuant {
  std::vector<const Codec*> codecs;              // per linear, null: as it is
  std::vector<std::optional<float>> input_amax;  // per linear
  std::vector<KvFormat> kv;                      // per attention
  std::vector<std::pair<float, float>> kv_amax;  // per attention: keys, values
};

// Quantizes and reads back inputs, keys and values.
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
