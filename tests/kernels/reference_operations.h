#pragma once

#include "tests/kernels/operations.h"
#include "tests/kernels/reference.h"

namespace halftone::testing {

// The results of every_operation, element by element from tests/kernels/reference.h.
class ReferenceOperations {
 public:
  explicit ReferenceOperations(const Matrix& w) : w_(w), codes_(codes_of(w.count())) {}

  Results run() {
    const Scales scales = scales_of(w_);
    add_amax();
    for (const float scale : scales.fp8) add_fp8(scale);
    for (const std::vector<float>& scale_N : scales.int8_rows) add_int8(scale_N);
    for (const int block : {16, 32}) {
      if (w_.cols % block != 0) continue;
      for (const float scale_2 : scales.nvfp4) add_nvfp4(block, scale_2);
    }
    for (const float amax : scales.amaxes) add_fake(amax);
    return std::move(results_);
  }

 private:
  template <typename Function>
  Bytes codes(const Function& function) const {
    Bytes bytes;
    for (int64_t i = 0; i < w_.count(); ++i) bytes.push_back(static_cast<uint8_t>(function(i)));
    return bytes;
  }

  template <typename Function>
  Bytes values(const Function& function) const {
    Matrix result(w_.dtype, w_.rows, w_.cols);
    for (int64_t i = 0; i < w_.count(); ++i) result.set(i, function(i));
    return result.bytes;
  }

  // The largest magnitude of [begin, end); NaN if there is one.
  double amax_of(int64_t begin, int64_t end) const {
    double amax = 0.0;
    for (int64_t i = begin; i < end; ++i) {
      if (std::isnan(w_.at(i))) return w_.at(i);
      amax = std::max(amax, std::abs(w_.at(i)));
    }
    return amax;
  }

  void add(const char* name, Bytes bytes) { results_.emplace_back(name, std::move(bytes)); }

  void add_amax() {
    std::vector<float> rows(static_cast<size_t>(w_.rows), 0.0f);
    float amax = 0.0f;
    bool finite = true;
    for (int64_t i = 0; i < w_.count(); ++i) {
      const double value = w_.at(i);
      finite = finite && std::isfinite(value);
      if (!std::isfinite(value)) continue;
      float& row = rows[static_cast<size_t>(i / w_.cols)];
      row = std::max(row, static_cast<float>(std::abs(value)));
      amax = std::max(amax, row);
    }
    Bytes tensor = bytes_of(std::vector<float>{amax});
    tensor.push_back(finite ? 1 : 0);
    add("amax_of_tensor", tensor);
    add("amax_of_rows", bytes_of(rows));
  }

  void add_fp8(double scale) {
    const double rounded = reference::round_to(w_.dtype, scale);
    for (const double divisor : {scale, rounded}) {
      add("quantize_fp8",
          codes([&](int64_t i) { return reference::fp8_code(w_.dtype, w_.at(i), divisor); }));
    }
    add("dequantize_fp8", values([&](int64_t i) {
          return reference::multiply(reference::of_e4m3(codes_[static_cast<size_t>(i)]), scale);
        }));
  }

  void add_int8(const std::vector<float>& scale_N) {
    const auto scale = [&](int64_t i) { return scale_N[static_cast<size_t>(i / w_.cols)]; };
    add("quantize_int8_rows",
        codes([&](int64_t i) { return reference::int8_code(w_.at(i), scale(i)); }));
    add("dequantize_int8_rows", values([&](int64_t i) {
          const auto code = static_cast<int8_t>(codes_[static_cast<size_t>(i)]);
          return reference::multiply(code, scale(i));
        }));
  }

  void add_nvfp4(int block, double scale_2) {
    Bytes packed(static_cast<size_t>(w_.count() / 2));
    Bytes block_scales;
    for (int64_t i = 0; i < w_.count(); ++i) {
      if (i % block == 0) {
        block_scales.push_back(reference::nvfp4_scale(amax_of(i, i + block), scale_2));
      }
      const uint8_t code = reference::nvfp4_code(w_.at(i), block_scales.back(), scale_2);
      packed[static_cast<size_t>(i / 2)] |= static_cast<uint8_t>(i % 2 == 0 ? code : code << 4);
    }
    add("quantize_nvfp4 codes", packed);
    add("quantize_nvfp4 scales", block_scales);
    add("dequantize_nvfp4", values([&](int64_t i) {
          const uint8_t pair = codes_[static_cast<size_t>(i / 2)];
          const uint8_t scale = codes_[static_cast<size_t>(i / block)];
          const uint8_t code = i % 2 == 0 ? pair & 15 : pair >> 4;
          return reference::multiply(reference::of_e2m1(code),
                                     reference::multiply(reference::of_e4m3(scale), scale_2));
        }));
  }

  void add_fake(double amax) {
    const Bytes fp8 = values([&](int64_t i) { return reference::fake_fp8(w_.at(i), amax); });
    const Bytes nvfp4 = values([&](int64_t i) {
      const int64_t row = i / w_.cols * w_.cols;
      const int64_t begin = row + (i - row) / 16 * 16;
      const double largest = amax_of(begin, std::min(begin + 16, row + w_.cols));
      return reference::fake_nvfp4(w_.at(i), reference::fake_nvfp4_step(largest, amax));
    });
    for (int copy = 0; copy < 2; ++copy) {
      add("fake_quantize_fp8", fp8);
      add("fake_quantize_nvfp4", nvfp4);
    }
  }

  const Matrix& w_;
  Bytes codes_;
  Results results_;
};

// The first difference between two lists of results, or nothing.
inline std::string difference(const Results& found, const Results& expected) {
  if (found.size() != expected.size()) return "different numbers of results";
  for (size_t i = 0; i < found.size(); ++i) {
    const Bytes& ours = found[i].second;
    const Bytes& theirs = expected[i].second;
    if (ours.size() != theirs.size()) return found[i].first + ": different sizes";
    const auto at = std::mismatch(ours.begin(), ours.end(), theirs.begin());
    if (at.first != ours.end()) {
      return found[i].first + " byte " + std::to_string(at.first - ours.begin()) + ": " +
             std::to_string(*at.first) + " instead of " + std::to_string(*at.second);
    }
  }
  return "";
}

}  // namespace halftone::testing
