#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "evaluate/generation/placed_model.h"

namespace halftone {

// Sequences that are continued together, one row each. Rows may come and go between steps: their
// last tokens are aligned, and what a row has in front of its first token is masked. What is
// computed for a row does not depend, up to rounding, on the others. Collective as PlacedModel is.
class DecodingBatch {
 public:
  explicit DecodingBatch(PlacedModel& model) : model_(model), caches_(model.make_caches()) {}

  int64_t rows() const { return static_cast<int64_t>(sequences_.size()); }
  const std::vector<int64_t>& tokens(int64_t row) const {
    return sequences_[static_cast<size_t>(row)];
  }

  // Prompts, each of at least one token, become the last rows. F32 [prompts, V] in host memory: the
  // logits of the token behind each.
  at::Tensor add(const std::vector<std::vector<int64_t>>& prompts);
  // A further token for each row: F32 [rows, V], the logits of the one behind it.
  at::Tensor step(const std::vector<int64_t>& ids_B);
  // These rows stay, in this order.
  void keep(const std::vector<int64_t>& rows);

 private:
  // Positions of a prompt that are computed at a time: masks and scores grow with it.
  static constexpr int64_t kPiece = 512;

  struct Filled {
    KvCaches caches;
    at::Tensor logits_BV;
  };
  Filled fill(const std::vector<std::vector<int64_t>>& sequences);
  at::Tensor step_beyond(const std::vector<int64_t>& ids_B, const std::vector<int64_t>& crossing);
  // Rows of the lengths, of which [past, past + length) are computed and `width` are there in the
  // end.
  static BatchContext context_of(const std::vector<int64_t>& lengths, int64_t width, int64_t past,
                                 int64_t length);
  int64_t width() const;  // positions in use: of the longest row

  PlacedModel& model_;
  KvCaches caches_;
  std::vector<std::vector<int64_t>> sequences_;
};

}  // namespace halftone
