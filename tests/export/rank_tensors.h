#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace halftone::test {

// A tensor of a file in memory, and what the rules of a sharded layout do with it. Nothing here
// knows how the program makes such files.
struct RankTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string data;

  bool operator==(const RankTensor& other) const = default;
  int64_t rows() const { return shape.at(0); }
};
using TensorFile = std::map<std::string, RankTensor>;

[[noreturn]] inline void fail(const std::string& name, const std::string& what) {
  throw std::runtime_error(name + ": " + what);
}
inline void require(bool holds, const std::string& name, const std::string& what) {
  if (!holds) fail(name, what);
}

inline RankTensor rows_of(const RankTensor& tensor, int64_t begin, int64_t end) {
  const size_t row = tensor.data.size() / static_cast<size_t>(tensor.rows());
  RankTensor part{
      tensor.dtype, tensor.shape,
      tensor.data.substr(static_cast<size_t>(begin) * row, static_cast<size_t>(end - begin) * row)};
  part.shape[0] = end - begin;
  return part;
}

inline RankTensor cat_rows(const std::vector<RankTensor>& parts) {
  RankTensor whole{parts.at(0).dtype, parts[0].shape, ""};
  whole.shape[0] = 0;
  for (const RankTensor& part : parts) {
    whole.shape[0] += part.rows();
    whole.data += part.data;
  }
  return whole;
}

// Of matrices with one number of rows.
inline RankTensor cat_columns(const std::vector<RankTensor>& parts) {
  RankTensor whole{parts.at(0).dtype, {parts[0].rows(), 0}, ""};
  for (const RankTensor& part : parts) whole.shape[1] += part.shape.at(1);
  for (int64_t r = 0; r < whole.rows(); ++r) {
    for (const RankTensor& part : parts) {
      const size_t width = part.data.size() / static_cast<size_t>(part.rows());
      whole.data.append(part.data, static_cast<size_t>(r) * width, width);
    }
  }
  return whole;
}

template <typename Element>
std::vector<Element> elements_of(const RankTensor& tensor) {
  std::vector<Element> elements(tensor.data.size() / sizeof(Element));
  std::memcpy(elements.data(), tensor.data.data(), elements.size() * sizeof(Element));
  return elements;
}
template <typename Element>
RankTensor tensor_of(DType dtype, std::vector<int64_t> shape,
                     const std::vector<Element>& elements) {
  RankTensor tensor{dtype, std::move(shape), std::string(elements.size() * sizeof(Element), '\0')};
  std::memcpy(tensor.data.data(), elements.data(), tensor.data.size());
  return tensor;
}

inline float float_of(uint16_t bf16) {
  const uint32_t bits = static_cast<uint32_t>(bf16) << 16;
  float value = 0.0f;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// As F16: F32 and BF16 values rounded to nearest even by the compiler's own type.
inline RankTensor as_f16(const RankTensor& wide) {
  std::vector<_Float16> halves;
  if (wide.dtype == DType::kF32) {
    for (const float value : elements_of<float>(wide))
      halves.push_back(static_cast<_Float16>(value));
  } else {
    for (const uint16_t value : elements_of<uint16_t>(wide)) {
      halves.push_back(static_cast<_Float16>(float_of(value)));
    }
  }
  return tensor_of(DType::kF16, wide.shape, halves);
}

// BF16 values and 1, rounded to nearest even.
inline RankTensor plus_one(const RankTensor& tensor) {
  std::vector<uint16_t> sums;
  for (const uint16_t value : elements_of<uint16_t>(tensor)) {
    const float sum = float_of(value) + 1.0f;
    uint32_t bits = 0;
    std::memcpy(&bits, &sum, sizeof(bits));
    sums.push_back(static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16));
  }
  return tensor_of(DType::kBF16, tensor.shape, sums);
}

// F32 that holds BF16 values.
inline RankTensor narrow(const RankTensor& tensor, const std::string& name) {
  std::vector<uint16_t> values;
  for (const uint32_t bits : elements_of<uint32_t>(tensor)) {
    require((bits & 0xFFFF) == 0, name, "a widened value has more bits");
    values.push_back(static_cast<uint16_t>(bits >> 16));
  }
  return tensor_of(DType::kBF16, tensor.shape, values);
}

// The rank files. Everything that was looked at is crossed out.
class Ranks {
 public:
  Ranks(std::vector<TensorFile> files, int64_t tp, int64_t pp)
      : files_(std::move(files)), tp_(tp), pp_(pp) {
    for (const TensorFile& file : files_) {
      left_.emplace_back();
      for (const auto& [name, tensor] : file) left_.back().insert(name);
    }
  }

  int64_t tp() const { return tp_; }
  int64_t pp() const { return pp_; }
  const RankTensor& first(int64_t stage, const std::string& name) const {
    return files_[static_cast<size_t>(stage * tp_)].at(name);
  }
  bool has(int64_t stage, const std::string& name) const {
    return files_[static_cast<size_t>(stage * tp_)].count(name) > 0;
  }
  // Of all tensor-parallel ranks of a pipeline stage.
  std::vector<RankTensor> take(int64_t stage, const std::string& name) {
    std::vector<RankTensor> tensors;
    for (int64_t rank = stage * tp_; rank < (stage + 1) * tp_; ++rank) {
      const auto r = static_cast<size_t>(rank);
      left_[r].erase(name);
      require(files_[r].count(name) > 0, name, "a rank lacks it");
      tensors.push_back(files_[r].at(name));
    }
    return tensors;
  }
  RankTensor replicated(int64_t stage, const std::string& name) {
    return same(take(stage, name), name);
  }
  static RankTensor same(const std::vector<RankTensor>& tensors, const std::string& name) {
    for (const RankTensor& tensor : tensors) require(tensor == tensors[0], name, "ranks differ");
    return tensors[0];
  }
  std::vector<std::string> left(int64_t stage, const std::string& prefix) const {
    std::vector<std::string> names;
    for (const std::string& name : left_[static_cast<size_t>(stage * tp_)]) {
      if (name.starts_with(prefix)) names.push_back(name);
    }
    return names;
  }
  void require_all_taken() const {
    for (const std::set<std::string>& names : left_) {
      require(names.empty(), names.empty() ? "" : *names.begin(), "nobody knows this tensor");
    }
  }

 private:
  std::vector<TensorFile> files_;
  int64_t tp_;
  int64_t pp_;
  std::vector<std::set<std::string>> left_;
};

}  // namespace halftone::test
