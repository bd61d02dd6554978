#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "calibrate/statistics.h"
#include "model/model.h"

namespace halftone {

// What to take from the activations of a stage.
struct ObserveOptions {
  bool inputs = true;         // amaxes of inputs, of the tensor and of each channel
  bool mean_abs = false;      // mean magnitudes of input channels
  bool capture = false;       // the inputs themselves
  bool key_value = false;     // extremes and means of keys and values
  bool rotated_keys = false;  // amax of keys behind a Hadamard rotation
  bool count_padding = false;

  static ObserveOptions nothing() { return {false, false, false, false, false, false}; }
  bool any() const { return inputs || mean_abs || capture || key_value || rotated_keys; }
  void add(const ObserveOptions& other);
};

// Computes a batch plainly and observes the inputs of linears, keys and values. Padded positions
// stay out unless `count_padding`. An input that is not finite is an InputError naming the linear
// and the batch.
class Observer : public LinearRunner {
 public:
  Observer(const StageSpec& stage, const BatchContext& batch, int64_t batch_index,
           const ObserveOptions& options);

  // x: [B, T, in], or [tokens, in] of real tokens only (experts).
  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override;
  std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                              at::Tensor v_BHTD) override;
  void take_rows(LinearRunner& behind) override;

  const StageStatistics& statistics() const { return statistics_; }
  // [linear]: x_TK; undefined where the linear was not called or inputs are not captured.
  const std::vector<at::Tensor>& captured() const { return captured_; }

 private:
  // What one input tensor showed.
  struct Seen {
    float amax = 0.0f;
    at::Tensor channel_amax;
    at::Tensor mean_abs;
    int64_t tokens = 0;
    at::Tensor tokens_TK;  // only if they are captured: else an observer would hold an activation
  };
  Seen observe(const at::Tensor& x, bool of_encoder, const std::string& what) const;
  // [B, T, features] or [tokens, features] without padding: [tokens, features], contiguous.
  at::Tensor real_tokens(const at::Tensor& x, bool of_encoder) const;
  void observe_cache(const AttentionSite& attention, CacheStatistics& cache,
                     const at::Tensor& states_BHTD, bool rotated, const char* what) const;

  const StageSpec& stage_;
  const BatchContext& batch_;
  int64_t batch_index_;
  ObserveOptions options_;
  StageStatistics statistics_;
  std::vector<at::Tensor> captured_;
  // Linears that share an input follow each other: q, k and v observe one tensor once.
  // Weak: the activation goes when the model is done with it, but no other gets its address.
  c10::weak_intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl> last_input_;
  Seen last_seen_;
};

}  // namespace halftone
