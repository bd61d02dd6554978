#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "dist/communicator.h"

// The cases every communicator must pass. `Buffer` is memory that the communicator's pointers may
// point to: Buffer(bytes), data(), upload(pointer, bytes), download(pointer, bytes). Every value is
// a function of its rank and its index, so each rank can compute what must come out.
namespace halftone::cases {

constexpr int64_t kSizes[] = {0, 1, 17, 4099, (int64_t{1} << 20) + 3};

template <typename T>
constexpr DType dtype_for();
template <>
constexpr DType dtype_for<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_for<double>() {
  return DType::kF64;
}
template <>
constexpr DType dtype_for<int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_for<int64_t>() {
  return DType::kI64;
}

// Small whole numbers of both signs: sums of them are exact in every type and order.
template <typename T>
T value_at(int rank, int64_t index) {
  return static_cast<T>((index * 7 + rank * 13) % 101 - 50);
}
inline uint8_t byte_at(int rank, int64_t index) {
  return static_cast<uint8_t>((index * 31 + rank * 57 + index / 251) % 256);
}

template <typename Buffer, typename T>
void expect_all_reduced(Communicator& communicator, ReduceOp op) {
  for (const int64_t count : kSizes) {
    std::vector<T> values(static_cast<size_t>(count));
    std::vector<T> expected(values.size());
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      values[at] = value_at<T>(communicator.rank(), i);
      expected[at] = value_at<T>(0, i);
      for (int rank = 1; rank < communicator.size(); ++rank) {
        const T value = value_at<T>(rank, i);
        expected[at] = op == ReduceOp::kSum ? expected[at] + value : std::max(expected[at], value);
      }
    }
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    Buffer buffer(bytes);
    buffer.upload(values.data(), bytes);
    communicator.all_reduce(buffer.data(), count, dtype_for<T>(), op);
    buffer.download(values.data(), bytes);
    EXPECT_TRUE(values == expected) << "count " << count;
  }
}

template <typename Buffer>
void expect_all_reduced(Communicator& communicator) {
  for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kSum}) {
    expect_all_reduced<Buffer, float>(communicator, op);
    expect_all_reduced<Buffer, double>(communicator, op);
    expect_all_reduced<Buffer, int32_t>(communicator, op);
    expect_all_reduced<Buffer, int64_t>(communicator, op);
  }
}

template <typename Buffer>
void expect_broadcast(Communicator& communicator) {
  for (const int64_t bytes : kSizes) {
    for (int root = 0; root < communicator.size(); ++root) {
      std::vector<uint8_t> values(static_cast<size_t>(bytes));
      std::vector<uint8_t> expected(values.size());
      for (int64_t i = 0; i < bytes; ++i) {
        values[static_cast<size_t>(i)] = byte_at(communicator.rank(), i);
        expected[static_cast<size_t>(i)] = byte_at(root, i);
      }
      Buffer buffer(bytes);
      buffer.upload(values.data(), bytes);
      communicator.broadcast(buffer.data(), bytes, root);
      buffer.download(values.data(), bytes);
      EXPECT_TRUE(values == expected) << bytes << " bytes from rank " << root;
    }
  }
}

// Gathers parts of these lengths, by all_gather when `equal`, else from a buffer apart from the
// result or, when `in_place`, from its place in the result.
template <typename Buffer>
void expect_gathered(Communicator& communicator, const std::vector<int64_t>& lengths, bool equal,
                     bool in_place) {
  std::vector<uint8_t> expected;
  std::vector<uint8_t> mine;
  int64_t my_start = 0;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    if (rank == communicator.rank()) my_start = static_cast<int64_t>(expected.size());
    for (int64_t i = 0; i < lengths[static_cast<size_t>(rank)]; ++i) {
      expected.push_back(byte_at(rank, i));
      if (rank == communicator.rank()) mine.push_back(expected.back());
    }
  }
  const auto bytes = static_cast<int64_t>(expected.size());
  const auto my_bytes = static_cast<int64_t>(mine.size());
  std::vector<uint8_t> start(expected.size(), 0xEE);
  if (in_place) std::copy(mine.begin(), mine.end(), start.begin() + my_start);
  Buffer out(bytes);
  out.upload(start.data(), bytes);
  Buffer apart(my_bytes);
  apart.upload(mine.data(), my_bytes);
  if (equal) {
    communicator.all_gather(out.data(), lengths[0]);
  } else {
    const void* from = in_place ? static_cast<uint8_t*>(out.data()) + my_start : apart.data();
    communicator.all_gather_variable(from, lengths.data(), out.data());
  }
  std::vector<uint8_t> gathered(expected.size());
  out.download(gathered.data(), bytes);
  EXPECT_TRUE(gathered == expected)
      << bytes << " bytes, equal " << equal << ", in place " << in_place;
}

template <typename Buffer>
void expect_gathered(Communicator& communicator) {
  const auto ranks = static_cast<size_t>(communicator.size());
  for (const int64_t bytes : kSizes) {
    expect_gathered<Buffer>(communicator, std::vector<int64_t>(ranks, bytes), true, true);
  }
  for (const bool in_place : {false, true}) {
    for (const int64_t bytes : kSizes) {
      std::vector<int64_t> growing(ranks);
      std::vector<int64_t> odd_ranks_only(ranks, 0);
      std::vector<int64_t> even_ranks_only(ranks, 0);
      for (size_t r = 0; r < ranks; ++r) {
        growing[r] = bytes + static_cast<int64_t>(r) * 5;
        (r % 2 == 1 ? odd_ranks_only : even_ranks_only)[r] = bytes;
      }
      expect_gathered<Buffer>(communicator, growing, false, in_place);
      expect_gathered<Buffer>(communicator, odd_ranks_only, false, in_place);
      expect_gathered<Buffer>(communicator, even_ranks_only, false, in_place);
    }
  }
}

}  // namespace halftone::cases
