#include "calibrate/observer.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "formats/kv_cache.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"

namespace halftone {

void ObserveOptions::add(const ObserveOptions& other) {
  inputs = inputs || other.inputs;
  mean_abs = mean_abs || other.mean_abs;
  capture = capture || other.capture;
  key_value = key_value || other.key_value;
  rotated_keys = rotated_keys || other.rotated_keys;
}

Observer::Observer(const StageSpec& stage, const BatchContext& batch, int64_t batch_index,
                   const ObserveOptions& options)
    : stage_(stage),
      batch_(batch),
      batch_index_(batch_index),
      options_(options),
      statistics_(stage),
      captured_(stage.linears.size()),
      last_input_(c10::intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl>()) {}

at::Tensor Observer::linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                            const at::Tensor& bias_N) {
  if ((options_.inputs || options_.mean_abs || options_.capture) && x_BTK.numel() > 0) {
    if (last_input_._unsafe_get_target() != x_BTK.unsafeGetTensorImpl()) {
      const LinearSite& linear = stage_.linears[site];
      last_seen_ = observe(x_BTK, linear.of_encoder, "the input of '" + linear.name + "'");
      last_input_ = x_BTK.getIntrusivePtr();
    }
    const Seen& seen = last_seen_;
    if (seen.tokens == 0) return at::linear(x_BTK, w_NK, bias_N);
    statistics_.input_amax[site] = std::max(statistics_.input_amax[site], seen.amax);
    at::Tensor& channels = statistics_.channel_amax[site];
    channels = channels.defined() ? at::maximum(channels, seen.channel_amax) : seen.channel_amax;
    statistics_.mean_abs[site] = seen.mean_abs;
    statistics_.tokens[site] += seen.tokens;
    if (options_.capture) captured_[site] = seen.tokens_TK;
  }
  return at::linear(x_BTK, w_NK, bias_N);
}

std::pair<at::Tensor, at::Tensor> Observer::key_value(size_t site, at::Tensor k_BHTD,
                                                      at::Tensor v_BHTD) {
  if (options_.key_value || options_.rotated_keys) {
    const AttentionSite& attention = stage_.attentions[site];
    observe_cache(attention, statistics_.keys[site], k_BHTD, options_.rotated_keys, "keys");
    observe_cache(attention, statistics_.values[site], v_BHTD, false, "values");
  }
  return {std::move(k_BHTD), std::move(v_BHTD)};
}

void Observer::take_rows(LinearRunner& behind) {
  auto& other = dynamic_cast<Observer&>(behind);
  statistics_.take_rows(other.statistics_);
  const std::vector<at::Tensor> front = captured_;
  for (size_t i = 0; i < front.size(); ++i) {
    const at::Tensor& back = other.captured_[i];
    if (!back.defined()) continue;
    if (!front[i].defined()) {
      captured_[i] = back;
    } else if (i > 0 && front[i].is_same(front[i - 1]) && back.is_same(other.captured_[i - 1])) {
      captured_[i] = captured_[i - 1];
    } else {
      captured_[i] = at::cat({front[i], back});
    }
  }
}

at::Tensor Observer::real_tokens(const at::Tensor& x, bool of_encoder) const {
  const bool padded = of_encoder ? batch_.encoder_padded : batch_.padded;
  if (x.dim() == 2 || options_.count_padding || !padded) {
    return x.reshape({-1, x.size(-1)}).contiguous();
  }
  const std::vector<TokenRange>& tokens = of_encoder ? batch_.encoder_tokens : batch_.tokens;
  std::vector<at::Tensor> rows;
  for (size_t row = 0; row < tokens.size(); ++row) {
    const TokenRange& range = tokens[row];
    rows.push_back(x[static_cast<int64_t>(row)].slice(0, range.begin, range.end));
  }
  return at::cat(rows);
}

Observer::Seen Observer::observe(const at::Tensor& x, bool of_encoder,
                                 const std::string& what) const {
  Seen seen;
  const at::Tensor tokens_TK = real_tokens(x, of_encoder);
  seen.tokens = tokens_TK.size(0);
  if (seen.tokens == 0) return seen;  // rows of padding alone
  if (options_.capture) seen.tokens_TK = tokens_TK;
  const Context context = context_of(tokens_TK, nullptr);
  const MatrixView view = matrix_of(tokens_TK);
  const Amax amax = amax_of_tensor(context, view);
  if (!amax.finite) {
    throw InputError(concat(what, " is NaN or infinite in calibration batch ", batch_index_,
                            ": the model overflows in this --dtype, or its weights are damaged"));
  }
  seen.amax = amax.value;
  at::Tensor channels = at::empty({view.cols}, tokens_TK.options().dtype(at::kFloat));
  amax_of_columns(context, view, channels.mutable_data_ptr<float>());
  seen.channel_amax = channels.cpu();
  if (options_.mean_abs) {
    // The reference takes the mean in the compute dtype (calibration.md, 5.6).
    seen.mean_abs = tokens_TK.abs().mean(0).to(at::kFloat).cpu();
  }
  return seen;
}

void Observer::observe_cache(const AttentionSite& attention, CacheStatistics& cache,
                             const at::Tensor& states_BHTD, bool rotated, const char* what) const {
  const auto tokens_of = [&](const at::Tensor& states) {
    const at::Tensor x = states.transpose(1, 2);
    return real_tokens(x.reshape({x.size(0), x.size(1), -1}), attention.of_encoder);
  };
  const at::Tensor tokens_TC = tokens_of(states_BHTD);
  if (tokens_TC.size(0) == 0) return;
  const Amax amax = amax_of_tensor(context_of(tokens_TC, nullptr), matrix_of(tokens_TC));
  if (!amax.finite) {
    throw InputError(concat("the ", what, " of '", attention.name,
                            "' are NaN or infinite in calibration batch ", batch_index_,
                            ": the model overflows in this --dtype, or its weights are damaged"));
  }
  cache.amax = amax.value;
  cache.largest = tokens_TC.amax(0).to(at::kFloat).cpu();
  cache.smallest = tokens_TC.amin(0).to(at::kFloat).cpu();
  cache.tokens = tokens_TC.size(0);
  cache.mean = tokens_TC.to(at::kFloat).mean(0).cpu();
  if (rotated) {
    const at::Tensor turned = tokens_of(hadamard(states_BHTD));
    cache.rotated_amax = amax_of_tensor(context_of(turned, nullptr), matrix_of(turned)).value;
  }
}

}  // namespace halftone
