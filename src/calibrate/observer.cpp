#include "calibrate/observer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"

namespace halftone {

AmaxObserver::AmaxObserver(const StageSpec& stage, const BatchContext& batch, int64_t batch_index,
                           const Options& options)
    : stage_(stage),
      batch_(batch),
      batch_index_(batch_index),
      options_(options),
      statistics_(stage),
      last_input_(c10::intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl>()) {}

at::Tensor AmaxObserver::linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                                const at::Tensor& bias_N) {
  if (options_.inputs) {
    if (last_input_._unsafe_get_target() != x_BTK.unsafeGetTensorImpl()) {
      last_amax_ = observe(x_BTK, 1, "the input of '" + stage_.linears[site].name + "'");
      last_input_ = x_BTK.getIntrusivePtr();
    }
    statistics_.input_amax[site] = std::max(statistics_.input_amax[site], last_amax_);
    for (const TokenRange& range : batch_.tokens) {
      statistics_.tokens[site] += options_.count_padding ? batch_.length : range.end - range.begin;
    }
  }
  return at::linear(x_BTK, w_NK, bias_N);
}

std::pair<at::Tensor, at::Tensor> AmaxObserver::key_value(size_t site, at::Tensor k_BHTD,
                                                          at::Tensor v_BHTD) {
  if (options_.key_value) {
    const std::string& name = stage_.attentions[site].name;
    statistics_.key_amax[site] = observe(k_BHTD, 2, "the keys of '" + name + "'");
    statistics_.value_amax[site] = observe(v_BHTD, 2, "the values of '" + name + "'");
  }
  return {std::move(k_BHTD), std::move(v_BHTD)};
}

float AmaxObserver::observe(const at::Tensor& x, int64_t token_dim, const std::string& what) const {
  const bool whole = options_.count_padding || !batch_.padded;
  const Context context = context_of(x, nullptr);
  Amax seen;
  if (whole) {
    seen = amax_of_tensor(context, matrix_of(x.contiguous()));
  } else {
    for (size_t row = 0; row < batch_.tokens.size(); ++row) {
      const TokenRange& range = batch_.tokens[row];
      const at::Tensor real =
          x[static_cast<int64_t>(row)].slice(token_dim - 1, range.begin, range.end).contiguous();
      const Amax of_row = amax_of_tensor(context, matrix_of(real));
      seen.value = std::max(seen.value, of_row.value);
      seen.finite = seen.finite && of_row.finite;
    }
  }
  if (!seen.finite) {
    throw InputError(concat(what, " is NaN or infinite in calibration batch ", batch_index_,
                            ": the model overflows in this --dtype, or its weights are damaged"));
  }
  return seen.value;
}

}  // namespace halftone
