#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>
#include <vector>

#include "model/linear_runner.h"

namespace halftone {

// Keys and values of one stage's attentions for some rows: [B, heads, positions, dim], of which the
// first ones are in use. How many is the owner's to know.
class KvCache {
 public:
  // Writes T positions behind `past` ones and returns all of them, as views.
  std::pair<at::Tensor, at::Tensor> append(size_t site, const at::Tensor& k_BHTD,
                                           const at::Tensor& v_BHTD, int64_t past);
  // Keeps these rows and the positions [begin, past) of them.
  void keep(const at::Tensor& rows, int64_t begin, int64_t past);
  // The rows of `other` behind these ones; both have their last position in use at the same place,
  // `past` and `other_past` positions of which are moved behind `length` - past (- other_past).
  void join(const KvCache& other, int64_t past, int64_t other_past, int64_t length);

 private:
  struct Entry {
    at::Tensor k, v;
  };
  Entry& entry(size_t site);

  std::vector<Entry> entries_;  // by attention site
};

// Calls `inner`, and lets attention see the cached keys and values, as `inner` quantized them, in
// front of the new ones.
class CachingRunner : public LinearRunner {
 public:
  CachingRunner(std::unique_ptr<LinearRunner> inner, KvCache& cache, int64_t past)
      : inner_(std::move(inner)), cache_(cache), past_(past) {}

  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override {
    return inner_->linear(site, x_BTK, w_NK, bias_N);
  }
  std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                              at::Tensor v_BHTD) override;

 private:
  std::unique_ptr<LinearRunner> inner_;
  KvCache& cache_;
  int64_t past_;
};

}  // namespace halftone
