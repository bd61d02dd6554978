#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "calibrate/statistics.h"
#include "model/model.h"

namespace halftone {

// Computes a batch plainly and takes the amax of every linear's input and of keys and values.
// Padded positions stay out unless `count_padding`. An input that is not finite is an InputError
// naming the linear and the batch.
class AmaxObserver : public LinearRunner {
 public:
  struct Options {
    bool inputs = true;
    bool key_value = false;
    bool count_padding = false;
  };
  AmaxObserver(const StageSpec& stage, const BatchContext& batch, int64_t batch_index,
               const Options& options);

  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override;
  std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                              at::Tensor v_BHTD) override;

  const StageStatistics& statistics() const { return statistics_; }

 private:
  // amax over the real tokens of x, whose dimension 0 is the row and `token_dim` the position.
  float observe(const at::Tensor& x, int64_t token_dim, const std::string& what) const;

  const StageSpec& stage_;
  const BatchContext& batch_;
  int64_t batch_index_;
  Options options_;
  StageStatistics statistics_;
  // Linears that share an input follow each other: q, k and v observe one tensor once.
  // Weak: the activation goes when the model is done with it, but no other gets its address.
  c10::weak_intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl> last_input_;
  float last_amax_ = 0.0f;
};

}  // namespace halftone
