#pragma once

#include "tests/kernels/integer_operations.h"
#include "tests/kernels/reference_integer.h"
#include "tests/kernels/reference_operations.h"

namespace halftone::testing {

// The results of IntegerOperations, element by element from tests/kernels/reference_integer.h.
class ReferenceIntegerOperations {
 public:
  explicit ReferenceIntegerOperations(const Matrix& w)
      : w_(w), cases_(w), codes_(codes_of(w.count())) {}

  Results run() {
    for (const int64_t block : cases_.blocks) {
      add("amax_of_blocks", bytes_of(amaxes_of(w_, 1, block)));
      add("amax_of_tiles", bytes_of(amaxes_of(w_, block, block)));
    }
    add("amax_of_columns",
        bytes_of(w_.rows > 0 ? amaxes_of(w_, w_.rows, 1)
                             : std::vector<float>(static_cast<size_t>(w_.cols))));
    for (const float factor : cases_.factors) {
      add_fp8("rows", 1, std::max<int64_t>(1, w_.cols), factor);
      for (const int64_t tile : cases_.tiles) add_fp8("tiles", tile, tile, factor);
      for (const int64_t block : cases_.packed_blocks(w_)) add_int4(block, factor);
    }
    add_fake();
    for (const int64_t block : cases_.blocks) {
      add_fake_int4(block);
      add_search(block);
    }
    return std::move(results_);
  }

 private:
  void add(const std::string& name, Bytes bytes) { results_.emplace_back(name, std::move(bytes)); }

  template <typename Function>
  Bytes values(const Function& function) const {
    Matrix result(w_.dtype, w_.rows, w_.cols);
    for (int64_t i = 0; i < w_.count(); ++i) result.set(i, function(i));
    return result.bytes;
  }

  // Of the pieces of `height` rows and `width` columns, the one that element i lies in.
  size_t piece(int64_t i, int64_t height, int64_t width) const {
    const int64_t across = (w_.cols + width - 1) / width;
    return static_cast<size_t>(i / w_.cols / height * across + i % w_.cols / width);
  }

  void add_fp8(const std::string& name, int64_t height, int64_t width, float factor) {
    const auto scales = scales_from(amaxes_of(w_, height, width), 448.0f, factor);
    Bytes bytes;
    for (int64_t i = 0; i < w_.count(); ++i) {
      bytes.push_back(reference::fp8_code_once(w_.at(i), scales[piece(i, height, width)]));
    }
    add("quantize_fp8_" + name, bytes);
    add("dequantize_fp8_" + name, values([&](int64_t i) {
          return reference::multiply(reference::of_e4m3(codes_[static_cast<size_t>(i)]),
                                     scales[piece(i, height, width)]);
        }));
  }

  // The byte and the nibble's shift of element i.
  std::pair<size_t, int> nibble(int64_t i) const {
    const int64_t row = i / w_.cols;
    return {static_cast<size_t>(row / 2 * w_.cols + i % w_.cols), row % 2 == 0 ? 0 : 4};
  }

  void add_int4(int64_t block, float factor) {
    const auto scales = scales_from(amaxes_of(w_, 1, block), 7.0f, factor);
    Bytes packed(static_cast<size_t>(w_.count() / 2));
    for (int64_t i = 0; i < w_.count(); ++i) {
      const int code = reference::int4_code(w_.at(i), scales[piece(i, 1, block)]);
      const auto [byte, shift] = nibble(i);
      packed[byte] = static_cast<uint8_t>(packed[byte] | ((code + 16) % 16) << shift);
    }
    add("quantize_int4", packed);
    add("dequantize_int4", values([&](int64_t i) {
          const auto [byte, shift] = nibble(i);
          const int code = codes_[byte] >> shift & 15;
          return reference::multiply(code < 8 ? code : code - 16, scales[piece(i, 1, block)]);
        }));
  }

  void add_twice(const std::string& name, const Bytes& bytes) {
    add(name, bytes);
    add(name + " in place", bytes);
  }

  // The largest magnitude of `all`; NaN or infinity if there is one.
  static double largest(const std::vector<double>& all) {
    double amax = 0.0;
    for (const double value : all) {
      if (std::isnan(value) || std::isnan(amax)) return std::nan("");
      amax = std::max(amax, std::abs(value));
    }
    return amax;
  }

  void add_fake() {
    add_twice("fake_quantize_fp8_tokens", values([&](int64_t i) {
                if (i % w_.cols == 0) token_ = largest(row_piece(w_, i / w_.cols, 0, w_.cols));
                return std::isinf(token_) ? std::nan("") : reference::fake_fp8(w_.at(i), token_);
              }));
    for (const float amax : scales_of(w_).amaxes) {
      add_twice("fake_quantize_int8",
                values([&](int64_t i) { return reference::fake_integer(w_.at(i), amax, 127.0); }));
    }
  }

  static std::vector<double> row_piece(const Matrix& of, int64_t row, int64_t begin, int64_t end) {
    std::vector<double> result;
    for (int64_t c = begin; c < end; ++c) result.push_back(of.at(row * of.cols + c));
    return result;
  }

  void add_fake_int4(int64_t block) {
    Matrix smoothed = w_;
    for (int64_t i = 0; i < w_.count(); ++i) {
      const float scale = cases_.column_scale[static_cast<size_t>(i % w_.cols)];
      smoothed.set(i, reference::multiply(w_.at(i), scale));
    }
    const std::vector<float> given = amaxes_of(w_, 1, block);
    for (const Matrix* u : std::initializer_list<const Matrix*>{&w_, &smoothed}) {
      for (const bool is_given : {false, true}) {
        for (const float ratio : {1.0f, 0.85f}) {
          double own = 0.0;
          add_twice("fake_quantize_int4", values([&](int64_t i) {
                      const int64_t c = i % w_.cols;
                      if (c % block == 0) {
                        own = largest(row_piece(*u, i / w_.cols, c, std::min(c + block, w_.cols)));
                      }
                      const double amax = is_given ? given[piece(i, 1, block)] : own;
                      if (std::isinf(amax)) return std::nan("");
                      return reference::fake_integer(u->at(i), reference::multiply(amax, ratio),
                                                     7.0);
                    }));
        }
      }
    }
  }

  void add_search(int64_t block) {
    const std::vector<float> amaxes = amaxes_of(w_, 1, block);
    const int64_t across = (w_.cols + block - 1) / block;
    for (const double bound : {127.0, 7.0}) {
      for (const std::vector<float>& multipliers : cases_.multipliers) {
        std::vector<float> best;
        for (size_t i = 0; i < amaxes.size(); ++i) {
          const int64_t row = static_cast<int64_t>(i) / across;
          const int64_t begin = static_cast<int64_t>(i) % across * block;
          const auto x = row_piece(w_, row, begin, std::min(begin + block, w_.cols));
          best.push_back(amaxes[i] *
                         multipliers[reference::best_multiplier(x, bound, amaxes[i], multipliers)]);
        }
        add("search_int_amax", bytes_of(best));
      }
    }
  }

  const Matrix& w_;
  IntegerCases cases_;
  Bytes codes_;
  double token_ = 0.0;
  Results results_;
};

}  // namespace halftone::testing
