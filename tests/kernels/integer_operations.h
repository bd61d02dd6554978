#pragma once

#include "kernels/int4.h"
#include "kernels/mse_search.h"
#include "tests/kernels/operations.h"

namespace halftone::testing {

// The largest finite magnitude of every piece of `height` rows and `width` columns.
inline std::vector<float> amaxes_of(const Matrix& w, int64_t height, int64_t width) {
  const int64_t across = (w.cols + width - 1) / width;
  std::vector<float> amaxes(static_cast<size_t>((w.rows + height - 1) / height * across));
  for (int64_t i = 0; i < w.count(); ++i) {
    if (!std::isfinite(w.at(i))) continue;
    float& amax = amaxes[static_cast<size_t>(i / w.cols / height * across + i % w.cols / width)];
    amax = std::max(amax, std::abs(static_cast<float>(w.at(i))));
  }
  return amaxes;
}

inline std::vector<float> scales_from(const std::vector<float>& amaxes, float bound, float factor) {
  std::vector<float> scales;
  for (const float amax : amaxes) {
    const float scale = std::min(amax / bound, 1e36f) * factor;
    scales.push_back(scale > 0.0f ? scale : 1.0f);
  }
  return scales;
}

// What the operations of this file are called with: sizes that divide a row and that do not, scales
// that fit, that saturate and that make codes of zero.
struct IntegerCases {
  std::vector<int64_t> blocks{3, 16, 128};
  std::vector<int64_t> tiles{1, 4, 7, 128};
  std::vector<float> factors{1.0f, 0.9f, 40.0f};
  std::vector<std::vector<float>> multipliers{{1.0f, 0.5f, 1.0f}, {}};
  std::vector<float> column_scale;

  explicit IntegerCases(const Matrix& w) {
    for (int i = 0; i < 39; ++i) {  // calibration.md, 5.1
      multipliers.back().push_back(static_cast<float>(0.25 + 3.75 * i / 38));
    }
    for (int64_t c = 0; c < w.cols; ++c) {
      column_scale.push_back(static_cast<float>(std::exp2(static_cast<double>(c % 23) - 11.3)));
    }
  }

  // Blocks that rows of `w` consist of, the whole row included; none if the rows are no pairs.
  std::vector<int64_t> packed_blocks(const Matrix& w) const {
    std::vector<int64_t> fitting;
    if (w.rows % 2 != 0) return fitting;
    for (const int64_t block : {int64_t{4}, int64_t{16}, int64_t{128}, w.cols}) {
      if (block > 0 && w.cols % block == 0) fitting.push_back(block);
    }
    return fitting;
  }
};

// every_operation for integer and FP8 formats by rows, blocks, tiles, columns and tokens.
template <typename Memory>
class IntegerOperations {
 public:
  IntegerOperations(Memory& memory, const Context& context, const Matrix& w)
      : memory_(memory),
        context_(context),
        w_(w),
        cases_(w),
        device_w_(memory.upload(w.bytes)),
        device_codes_(memory.upload(codes_of(w.count()))) {}

  Results run() {
    for (const int64_t block : cases_.blocks) add_amax(block);
    const auto columns = memory_.make(static_cast<size_t>(w_.cols) * sizeof(float));
    amax_of_columns(context_, view(), static_cast<float*>(columns->data()));
    add("amax_of_columns", columns);
    for (const float factor : cases_.factors) {
      add_fp8_rows(factor);
      for (const int64_t tile : cases_.tiles) add_fp8_tiles(tile, factor);
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
  using Buffer = decltype(std::declval<Memory&>().make(0));

  MatrixView view() const { return {device_w_->data(), w_.dtype, w_.rows, w_.cols}; }
  const uint8_t* codes() const { return static_cast<const uint8_t*>(device_codes_->data()); }
  Buffer make_values() { return memory_.make(w_.bytes.size()); }
  Buffer make_codes() { return memory_.make(static_cast<size_t>(w_.count())); }
  Buffer upload(const std::vector<float>& values) { return memory_.upload(bytes_of(values)); }
  static uint8_t* u8(const Buffer& buffer) { return static_cast<uint8_t*>(buffer->data()); }
  static float* f32(const Buffer& buffer) { return static_cast<float*>(buffer->data()); }
  void add(const std::string& name, const Buffer& buffer) {
    results_.emplace_back(name, memory_.download(buffer));
  }

  void add_amax(int64_t size) {
    const auto blocks = memory_.make(amaxes_of(w_, 1, size).size() * sizeof(float));
    amax_of_blocks(context_, view(), size, f32(blocks));
    add("amax_of_blocks " + std::to_string(size), blocks);
    const auto tiles = memory_.make(amaxes_of(w_, size, size).size() * sizeof(float));
    amax_of_tiles(context_, view(), size, f32(tiles));
    add("amax_of_tiles " + std::to_string(size), tiles);
  }

  void add_fp8_rows(float factor) {
    const auto scale =
        upload(scales_from(amaxes_of(w_, 1, std::max<int64_t>(1, w_.cols)), 448.0f, factor));
    const auto out = make_codes();
    quantize_fp8_rows(context_, view(), f32(scale), u8(out));
    add("quantize_fp8_rows", out);
    const auto values = make_values();
    dequantize_fp8_rows(context_, codes(), w_.rows, w_.cols, f32(scale), w_.dtype, values->data());
    add("dequantize_fp8_rows", values);
  }

  void add_fp8_tiles(int64_t tile, float factor) {
    const auto scale = upload(scales_from(amaxes_of(w_, tile, tile), 448.0f, factor));
    const auto out = make_codes();
    quantize_fp8_tiles(context_, view(), tile, f32(scale), u8(out));
    add("quantize_fp8_tiles " + std::to_string(tile), out);
    const auto values = make_values();
    dequantize_fp8_tiles(context_, codes(), w_.rows, w_.cols, tile, f32(scale), w_.dtype,
                         values->data());
    add("dequantize_fp8_tiles " + std::to_string(tile), values);
  }

  void add_int4(int64_t block, float factor) {
    const auto scale = upload(scales_from(amaxes_of(w_, 1, block), 7.0f, factor));
    const auto packed = memory_.make(static_cast<size_t>(w_.count() / 2));
    quantize_int4(context_, view(), block, f32(scale), u8(packed));
    add("quantize_int4 " + std::to_string(block), packed);
    const auto values = make_values();
    dequantize_int4(context_, codes(), w_.rows, w_.cols, block, f32(scale), w_.dtype,
                    values->data());
    add("dequantize_int4 " + std::to_string(block), values);
  }

  // Calls fake(x, y) with x apart from y and with both the same.
  template <typename Fake>
  void add_apart_and_in_place(const std::string& name, const Fake& fake) {
    const auto y = make_values();
    fake(view(), y->data());
    add(name, y);
    const auto both = memory_.upload(w_.bytes);
    fake(MatrixView{both->data(), w_.dtype, w_.rows, w_.cols}, both->data());
    add(name + " in place", both);
  }

  void add_fake() {
    add_apart_and_in_place("fake_quantize_fp8_tokens", [&](const MatrixView& x, void* y) {
      fake_quantize_fp8_tokens(context_, x, y);
    });
    for (const float amax : scales_of(w_).amaxes) {
      add_apart_and_in_place(
          "fake_quantize_int8 " + std::to_string(amax),
          [&](const MatrixView& x, void* y) { fake_quantize_int8(context_, x, amax, y); });
    }
  }

  void add_fake_int4(int64_t block) {
    const auto columns = upload(cases_.column_scale);
    const auto amax = upload(amaxes_of(w_, 1, block));
    for (const float* column_scale :
         {static_cast<const float*>(nullptr), static_cast<const float*>(f32(columns))}) {
      for (const float* amax_NB :
           {static_cast<const float*>(nullptr), static_cast<const float*>(f32(amax))}) {
        for (const float ratio : {1.0f, 0.85f}) {
          add_apart_and_in_place(
              "fake_quantize_int4 " + std::to_string(block), [&](const MatrixView& x, void* y) {
                fake_quantize_int4(context_, x, column_scale, block, amax_NB, ratio, y);
              });
        }
      }
    }
  }

  void add_search(int64_t block) {
    const std::vector<float> amaxes = amaxes_of(w_, 1, block);
    const auto amax = upload(amaxes);
    for (const int bits : {8, 4}) {
      for (const std::vector<float>& list : cases_.multipliers) {
        const auto multipliers = upload(list);
        const auto best = memory_.make(amaxes.size() * sizeof(float));
        search_int_amax(context_, view(), bits, block, f32(amax), f32(multipliers),
                        static_cast<int64_t>(list.size()), f32(best));
        add("search_int_amax " + std::to_string(bits) + " " + std::to_string(block), best);
      }
    }
  }

  Memory& memory_;
  const Context& context_;
  const Matrix& w_;
  IntegerCases cases_;
  Buffer device_w_;
  Buffer device_codes_;
  Results results_;
};

}  // namespace halftone::testing
