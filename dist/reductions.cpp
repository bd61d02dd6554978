#include "dist/reductions.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/check.h"

namespace halftone {
namespace {

// What the contributions of all batches to one piece of columns may take.
constexpr int64_t kPieceBytes = int64_t{64} << 20;

int64_t batches_on(int64_t batches, int rank, int size) {
  return (batches - rank + size - 1) / size;
}

}  // namespace

void MaxBucket::add(std::span<float> values) {
  parts_.push_back(values);
}

void MaxBucket::reduce(Communicator& communicator) {
  check(communicator.device() == Device::kCpu, "maxima are reduced in host memory");
  std::vector<float> all;
  for (const std::span<float> part : parts_) all.insert(all.end(), part.begin(), part.end());
  // The maximum with a NaN depends on the order, so none may come in (kernels/amax.h skips them).
  check(std::none_of(all.begin(), all.end(), [](float value) { return std::isnan(value); }),
        "a maximum is not a number");
  communicator.all_reduce(all.data(), static_cast<int64_t>(all.size()), DType::kF32,
                          ReduceOp::kMax);
  auto reduced = all.cbegin();
  for (const std::span<float> part : parts_) {
    const auto end = reduced + static_cast<std::ptrdiff_t>(part.size());
    std::copy(reduced, end, part.begin());
    reduced = end;
  }
  parts_.clear();
}

BatchOrderedSums::BatchOrderedSums(int64_t width, int64_t batches, const Communicator& communicator)
    : width_(width), batches_(batches), rank_(communicator.rank()), size_(communicator.size()) {
  check(width >= 0 && batches >= 0, "sizes are not negative");
  mine_.resize(static_cast<size_t>(batches_on(batches_, rank_, size_) * width_));
}

void BatchOrderedSums::set(int64_t batch, std::span<const float> contribution) {
  check(batch >= 0 && batch < batches_ && batch % size_ == rank_, "not a batch of this rank");
  check(static_cast<int64_t>(contribution.size()) == width_, "a contribution has `width` values");
  std::copy(contribution.begin(), contribution.end(), mine_.begin() + batch / size_ * width_);
}

std::vector<double> BatchOrderedSums::reduce(Communicator& communicator) const {
  check(communicator.device() == Device::kCpu, "sums are reduced in host memory");
  check(communicator.rank() == rank_ && communicator.size() == size_, "another communicator");
  std::vector<double> sums(static_cast<size_t>(width_), 0.0);
  if (batches_ == 0) return sums;

  constexpr int64_t kElement = sizeof(float);
  const int64_t widest = std::max<int64_t>(1, kPieceBytes / (batches_ * kElement));
  const int64_t my_batches = batches_on(batches_, rank_, size_);
  std::vector<int64_t> bytes_per_rank(static_cast<size_t>(size_));
  std::vector<int64_t> first_row(static_cast<size_t>(size_), 0);
  for (int r = 1; r < size_; ++r) {
    const auto at = static_cast<size_t>(r);
    first_row[at] = first_row[at - 1] + batches_on(batches_, r - 1, size_);
  }
  std::vector<float> given;
  std::vector<float> gathered;
  for (int64_t column = 0; column < width_; column += widest) {
    const int64_t columns = std::min(widest, width_ - column);
    given.resize(static_cast<size_t>(my_batches * columns));
    for (int64_t row = 0; row < my_batches; ++row) {
      std::copy_n(mine_.begin() + row * width_ + column, columns, given.begin() + row * columns);
    }
    for (int r = 0; r < size_; ++r) {
      bytes_per_rank[static_cast<size_t>(r)] = batches_on(batches_, r, size_) * columns * kElement;
    }
    gathered.resize(static_cast<size_t>(batches_ * columns));
    communicator.all_gather_variable(given.data(), bytes_per_rank.data(), gathered.data());
    for (int64_t batch = 0; batch < batches_; ++batch) {
      const int64_t row = first_row[static_cast<size_t>(batch % size_)] + batch / size_;
      const float* contribution = gathered.data() + row * columns;
      double* sum = sums.data() + column;
      for (int64_t i = 0; i < columns; ++i) sum[i] += static_cast<double>(contribution[i]);
    }
  }
  return sums;
}

}  // namespace halftone
