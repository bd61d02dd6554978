#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <set>
#include <string>

#include "export/check_headers.h"
#include "formats/codec.h"
#include "kernels/thread_pool.h"

namespace halftone {

// Below these the weight is another one, whatever the algorithm.
inline constexpr double kLeastDb8 = 12.0;  // 8 bits
inline constexpr double kLeastDb4 = 5.0;   // 4 bits

// A unified checkpoint's tensors beside those of the source that it was made from. What smoothing
// moved (into a norm, a stored scale, the linear before) is moved back first. Thread-safe.
class SourceComparison {
 public:
  SourceComparison(const Checkpoint& checkpoint, const Model& model, const HeaderCheck& headers,
                   const SourceLayout& source, ThreadPool& pool)
      : checkpoint_(checkpoint),
        model_(model),
        headers_(headers),
        source_(source),
        dtype_(model_dtype(checkpoint)),
        pool_(pool) {}

  struct Linear {
    std::optional<double> db;        // nullopt: exact, or all zero
    std::optional<Finding> finding;  // low-sqnr, nibble-order or swapped-tensors; without its place
  };
  Linear linear(size_t stage, size_t index, const PackedLinear& packed) const;

  // "changed-tensor" where a copied tensor, as it is stored, differs from the source's.
  std::optional<Finding> copy(size_t stage, size_t tensor, const at::Tensor& stored) const;
  std::optional<Finding> extra(const std::string& name, const at::Tensor& stored) const;

 private:
  const LinearFormat& format(size_t stage, size_t index) const {
    return headers_.stages[stage].linears[index];
  }
  at::Tensor source_weight(size_t stage, size_t index) const;
  PackedLinear packed(size_t stage, size_t index) const;
  bool folds_into_norm(size_t stage, const NormSite& norm) const;
  bool folds_into_previous(size_t stage, size_t index) const;
  at::Tensor norm_ratio(size_t stage, const NormSite& norm) const;
  at::Tensor row_scale(size_t stage, size_t index, const PackedLinear& packed) const;
  at::Tensor unfolded(size_t stage, size_t index, const PackedLinear& packed) const;
  at::Tensor wanted(size_t stage, size_t index, const PackedLinear& packed) const;
  // As sqnr_db(), of the weight and its branch together.
  Json db(size_t stage, size_t index, const PackedLinear& packed,
          const at::Tensor& wanted_NK) const;
  std::set<std::string> may_change(size_t stage) const;
  Finding diagnose(size_t stage, size_t index, const PackedLinear& packed,
                   const at::Tensor& wanted_NK, double db) const;
  std::string twin(size_t stage, size_t index, const at::Tensor& q_NK) const;

  const Checkpoint& checkpoint_;
  const Model& model_;
  const HeaderCheck& headers_;
  const SourceLayout& source_;
  DType dtype_;
  ThreadPool& pool_;
};

}  // namespace halftone
