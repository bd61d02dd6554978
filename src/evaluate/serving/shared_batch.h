#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "dist/communicator.h"
#include "evaluate/generation/decoding_batch.h"

namespace halftone {

// A DecodingBatch that rank 0 alone decides about: what it does, the other ranks do after it.
class SharedBatch {
 public:
  // `control`: over which rank 0 tells the others. Both outlive this.
  SharedBatch(PlacedModel& model, Communicator& control)
      : model_(model), control_(control), batch_(model) {}

  // On rank 0: as DecodingBatch's.
  int64_t rows() const { return batch_.rows(); }
  at::Tensor add(const std::vector<std::vector<int64_t>>& prompts);
  at::Tensor step(const std::vector<int64_t>& ids_B);
  void keep(const std::vector<int64_t>& rows);
  // The logits behind every token of a sequence, apart from the batch: `take` gets them in pieces,
  // F32 [T, V] behind the tokens from `begin` on.
  using TakeLogits = std::function<void(int64_t begin, const at::Tensor& logits_TV)>;
  void score(const std::vector<int64_t>& ids, const TakeLogits& take);
  // A sign of life while there is nothing to do: the others wait for it.
  void idle();
  // The other ranks leave follow().
  void end();

  // On the other ranks: does what rank 0 does until it ends.
  void follow();

 private:
  enum class Action : int64_t { kAdd, kStep, kKeep, kScore, kIdle, kEnd };
  void tell(Action action, std::vector<int64_t> numbers);
  void score_pieces(const std::vector<int64_t>& ids, const TakeLogits& take);

  PlacedModel& model_;
  Communicator& control_;
  DecodingBatch batch_;
};

}  // namespace halftone
