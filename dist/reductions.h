#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dist/communicator.h"

namespace halftone {

// Collects the maxima of a stage and reduces them in one collective. Exact, so the result does not
// depend on the number of ranks. A rank that saw nothing contributes kAbsent; what no rank saw
// stays kAbsent. Every rank must add the same values in the same order.
class MaxBucket {
 public:
  static constexpr float kAbsent = -1.0f;

  // The floats are reduced in place by reduce(); they must stay where they are until then.
  void add(std::span<float> values);
  void reduce(Communicator& communicator);

 private:
  std::vector<std::span<float>> parts_;
};

// Sums over batches that do not depend on who computed which batch: the contributions of all
// batches are gathered in pieces and added in batch order, in FP64, from 0.
class BatchOrderedSums {
 public:
  // `width` sums. Batch b is computed by rank b mod size.
  BatchOrderedSums(int64_t width, int64_t batches, const Communicator& communicator);

  // Sets the contribution [width] of a batch of this rank.
  void set(int64_t batch, std::span<const float> contribution);
  // The sums [width], the same on every rank.
  std::vector<double> reduce(Communicator& communicator) const;

 private:
  int64_t width_;
  int64_t batches_;
  int rank_;
  int size_;
  std::vector<float> mine_;  // [this rank's batches, width]
};

}  // namespace halftone
