#pragma once

#include "tests/kernels/block_operations.h"
#include "tests/kernels/reference_blocks.h"

namespace halftone::testing {

// The results of BlockOperations, element by element from tests/kernels/reference_blocks.h.
class ReferenceBlockOperations {
 public:
  explicit ReferenceBlockOperations(const Matrix& w)
      : w_(w), scales_(scales_of(w)), inputs_(w, scales_), codes_(codes_of(w.count())) {}

  Results run() {
    for (const bool scaled : {false, true}) add_scaled(scaled);
    add("fake_quantize_nvfp4_scaled in place", fake_nvfp4(scaled_matrix(), 32, 1.0));
    if (w_.cols % 16 == 0) add_nvfp4();
    if (w_.cols % 16 == 0) add_search();
    if (w_.cols % 32 == 0) add_mx();
    for (int copy = 0; copy < 2; ++copy) add_fake_mx();
    for (const int64_t block : nf4_blocks()) add_nf4(block);
    return std::move(results_);
  }

 private:
  void add(const char* name, Bytes bytes) { results_.emplace_back(name, std::move(bytes)); }

  static reference::Block elements(const Matrix& w, int64_t begin, int64_t end) {
    reference::Block block;
    for (int64_t i = begin; i < end; ++i) block.push_back(w.at(i));
    return block;
  }

  // The block of `size` that holds element i; blocks start anew in every row.
  static reference::Block block_of(const Matrix& w, int64_t i, int64_t size) {
    const int64_t row = i / w.cols * w.cols;
    const int64_t begin = row + (i - row) / size * size;
    return elements(w, begin, std::min(begin + size, row + w.cols));
  }

  // function(block) for each block and then function's result (element) for each of its elements.
  template <typename Prepare, typename Function>
  static Bytes values(const Matrix& w, int64_t size, const Prepare& prepare,
                      const Function& function) {
    Matrix result(w.dtype, w.rows, w.cols);
    decltype(prepare({})) shared{};
    for (int64_t i = 0; i < w.count(); ++i) {
      if (i % w.cols % size == 0) shared = prepare(block_of(w, i, size));
      result.set(i, function(w.at(i), shared));
    }
    return result.bytes;
  }

  // Low nibble first.
  static Bytes packed(const Bytes& codes) {
    Bytes result;
    for (size_t i = 0; i + 1 < codes.size(); i += 2) {
      result.push_back(static_cast<uint8_t>(codes[i] | codes[i + 1] << 4));
    }
    return result;
  }

  Matrix scaled_matrix() const {
    Matrix scaled(w_.dtype, w_.rows, w_.cols);
    for (int64_t i = 0; i < w_.count(); ++i) {
      const double factor = inputs_.column_scale[static_cast<size_t>(i % w_.cols)];
      scaled.set(i, reference::multiply(w_.at(i), factor));
    }
    return scaled;
  }

  static Bytes fake_nvfp4(const Matrix& w, int block, double amax) {
    return values(
        w, block,
        [&](const reference::Block& b) {
          return reference::fake_nvfp4_step(reference::amax_of(b), amax);
        },
        [](double x, double step) { return reference::fake_nvfp4(x, step); });
  }

  void add_scaled(bool scaled) {
    const Matrix w = scaled ? scaled_matrix() : w_;
    float amax = 0.0f;
    bool finite = true;
    for (int64_t i = 0; i < w.count(); ++i) {
      const double value = std::abs(w.at(i));
      finite = finite && std::isfinite(value);
      if (std::isfinite(value)) amax = std::max(amax, static_cast<float>(value));
    }
    add("amax_of_scaled", bytes_of(std::vector<float>{amax}));
    results_.back().second.push_back(finite ? 1 : 0);
    for (const int block : {16, 32}) {
      for (const float bound : scales_.amaxes) {
        add("fake_quantize_nvfp4_scaled", fake_nvfp4(w, block, bound));
      }
    }
  }

  void add_nvfp4() {
    for (const int block : {16, 32}) {
      if (w_.cols % block != 0) continue;
      for (const float scale_2 : scales_.nvfp4) {
        Bytes codes;
        for (int64_t i = 0; i < w_.count(); ++i) {
          codes.push_back(
              reference::nvfp4_code(w_.at(i), codes_[static_cast<size_t>(i / block)], scale_2));
        }
        add("quantize_nvfp4_with_scales", packed(codes));
      }
    }
    for (const double m : {448.0, 256.0}) {
      for (const Numerics numerics : {Numerics::kCpu, Numerics::kCuda}) {
        Bytes scales;
        for (const float amax : inputs_.block_amax) {
          scales.push_back(reference::static_nvfp4_scale(amax, inputs_.global_amax, m, numerics));
        }
        add("static_nvfp4_scales", scales);
      }
    }
  }

  void add_search() {
    for (const double m : {448.0, 256.0}) {
      for (const bool relative : {true, false}) {
        for (const bool with_hessian : {false, true}) {
          std::vector<float> best;
          for (int64_t i = 0; i < w_.count(); i += 16) {
            const auto b = static_cast<size_t>(i / 16);
            const auto column = static_cast<size_t>(i % w_.cols / 16);
            best.push_back(static_cast<float>(reference::search_nvfp4_block(
                elements(w_, i, i + 16), relative ? inputs_.global_amax : inputs_.block_amax[b],
                inputs_.global_amax, m, inputs_.candidates,
                with_hessian ? &inputs_.hessian[column * 256] : nullptr)));
          }
          add("search_nvfp4_blocks", bytes_of(best));
        }
      }
    }
  }

  void add_mx() {
    for (const double largest : {6.0, 448.0}) {
      Bytes codes;
      Bytes scales;
      for (int64_t i = 0; i < w_.count(); ++i) {
        if (i % 32 == 0) {
          scales.push_back(reference::mx_scale(reference::amax_of(block_of(w_, i, 32)), largest));
        }
        codes.push_back(largest == 6.0 ? reference::mxfp4_code(w_.at(i), scales.back())
                                       : reference::mxfp8_code(w_.at(i), scales.back()));
      }
      const bool fp4 = largest == 6.0;
      add(fp4 ? "quantize_mxfp4 codes" : "quantize_mxfp8 codes", fp4 ? packed(codes) : codes);
      add(fp4 ? "quantize_mxfp4 scales" : "quantize_mxfp8 scales", scales);
    }
    Matrix fp4(w_.dtype, w_.rows, w_.cols);
    Matrix fp8(w_.dtype, w_.rows, w_.cols);
    for (int64_t i = 0; i < w_.count(); ++i) {
      const double scale = reference::of_e8m0(codes_[static_cast<size_t>(i / 32)]);
      const uint8_t pair = codes_[static_cast<size_t>(i / 2)];
      const uint8_t nibble = i % 2 == 0 ? pair & 15 : pair >> 4;
      fp4.set(i, reference::multiply(reference::of_e2m1(nibble), scale));
      const uint8_t code = codes_[static_cast<size_t>(i)];
      fp8.set(i, reference::multiply(reference::of_e4m3(code), scale));
    }
    add("dequantize_mxfp4", fp4.bytes);
    add("dequantize_mxfp8", fp8.bytes);
  }

  void add_fake_mx() {
    const auto scale_for = [](double largest) {
      return [largest](const reference::Block& b) { return reference::fake_mx_scale(b, largest); };
    };
    add("fake_quantize_mxfp4", values(w_, 32, scale_for(6.0), reference::fake_mxfp4));
    add("fake_quantize_mxfp8", values(w_, 32, scale_for(448.0), reference::fake_mxfp8));
  }

  // High nibble first; an odd count ends with the code of 0.
  static Bytes nf4_bytes(Bytes codes) {
    if (codes.size() % 2 != 0) codes.push_back(7);
    Bytes result;
    for (size_t i = 0; i < codes.size(); i += 2) {
      result.push_back(static_cast<uint8_t>(codes[i] << 4 | codes[i + 1]));
    }
    return result;
  }

  void add_nf4(int64_t block) {
    for (const bool own_type : {false, true}) {
      std::vector<float> absmax;
      Bytes codes;
      for (int64_t begin = 0; begin < w_.count(); begin += block) {
        const reference::Block x = elements(w_, begin, std::min(begin + block, w_.count()));
        const bool whole = static_cast<int64_t>(x.size()) == block;
        const auto largest = static_cast<float>(reference::amax_of(x));
        const bool kept = own_type || whole || std::isnan(largest);
        absmax.push_back(kept ? largest : std::max(largest, 1e-38f));
        if (std::isnan(largest)) absmax.back() = std::numeric_limits<float>::quiet_NaN();
        for (const double value : x) {
          codes.push_back(own_type
                              ? reference::nf4_code_in_own_type(w_.dtype, value, largest, table_)
                              : reference::nf4_code(value, largest, whole, table_));
        }
      }
      add(own_type ? "quantize_nf4_in_own_type absmax" : "quantize_nf4 absmax", bytes_of(absmax));
      add(own_type ? "quantize_nf4_in_own_type codes" : "quantize_nf4 codes", nf4_bytes(codes));
    }
    Matrix read(w_.dtype, w_.rows, w_.cols);
    for (int64_t i = 0; i < w_.count(); ++i) {
      const uint8_t pair = codes_[static_cast<size_t>(i / 2)];
      const size_t code = i % 2 == 0 ? pair >> 4 : pair & 15;
      const float factor = float(i / block % 97) * 0.37f;
      read.set(i, reference::multiply(table_[code], factor));
    }
    add("dequantize_nf4", read.bytes);
  }

  const Matrix& w_;
  Scales scales_;
  BlockInputs inputs_;
  std::vector<float> table_ = nf4_table();
  Bytes codes_;
  Results results_;
};

}  // namespace halftone::testing
