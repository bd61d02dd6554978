#pragma once

#include <string>
#include <vector>

#include "kernels/mx.h"
#include "kernels/nf4.h"
#include "kernels/nvfp4_search.h"
#include "tests/kernels/operations.h"

// The counterpart of operations.h for static NVFP4 and its search, MX and NF4.
namespace halftone::testing {

// What they are called with for a matrix.
struct BlockInputs {
  BlockInputs(const Matrix& w, const Scales& scales) {
    const auto cols = static_cast<size_t>(w.cols);
    const auto blocks = static_cast<size_t>(w.count() / 16);
    for (size_t c = 0; c < cols; ++c) column_scale.push_back(0.25f + 0.3f * float(c % 11));
    const float largest = scales.amax;
    global_amax = largest > 0.0f ? std::min(largest, 0x1p100f) : 1.0f;
    // From nothing to twice the global amax, and what calibration should never give.
    for (size_t b = 0; b < blocks; ++b) {
      block_amax.push_back(global_amax * float(b % 67) / 33.0f);
      if (b % 41 == 7) block_amax.back() = std::numeric_limits<float>::infinity();
      if (b % 41 == 9) block_amax.back() = global_amax * 1e-7f;
      if (b % 43 == 11) block_amax.back() = std::numeric_limits<float>::quiet_NaN();
    }
    // Symmetric and positive on the diagonal, as sums of x x^T are.
    for (size_t i = 0; i < cols / 16 * 256; ++i) {
      const size_t row = i / 16 % 16;
      const size_t col = i % 16;
      const size_t seed = (row + col) * 7 + row * col * 3 + i / 256;
      hessian.push_back(row == col ? 3.0f + float(seed % 5) : float(seed % 13) / 8.0f - 0.75f);
    }
  }

  std::vector<float> column_scale;
  float global_amax = 0.0f;
  std::vector<float> block_amax;
  std::vector<float> hessian;
  // Ascending, with equals and with a zero.
  std::vector<float> candidates{0.0f, 0.25f, 0.61f, 0.61f, 0.9f, 1.0f, 1.3f};
};

// bitsandbytes' table.
inline std::vector<float> nf4_table() {
  return {-1.0f,
          -0.6961928009986877f,
          -0.5250730514526367f,
          -0.39491748809814453f,
          -0.28444138169288635f,
          -0.18477343022823334f,
          -0.09105003625154495f,
          0.0f,
          0.07958029955625534f,
          0.16093020141124725f,
          0.24611230194568634f,
          0.33791524171829224f,
          0.44070982933044434f,
          0.5626170039176941f,
          0.7229568362236023f,
          1.0f};
}

inline const std::vector<int64_t>& nf4_blocks() {
  static const std::vector<int64_t> blocks{64, 6, 2048};
  return blocks;
}

// Runs every operation on `w` in every way, as every_operation does.
template <typename Memory>
class BlockOperations {
 public:
  BlockOperations(Memory& memory, const Context& context, const Matrix& w)
      : memory_(memory),
        context_(context),
        w_(w),
        scales_(scales_of(w)),
        inputs_(w, scales_),
        device_w_(memory.upload(w.bytes)),
        codes_(memory.upload(codes_of(w.count()))) {}

  Results run() {
    add_scaled();
    if (w_.cols % 16 == 0) add_nvfp4();
    if (w_.cols % 16 == 0) add_search();
    if (w_.cols % 32 == 0) add_mx();
    add_fake_mx();
    for (const int64_t block : nf4_blocks()) add_nf4(block);
    return std::move(results_);
  }

 private:
  using Buffer = decltype(std::declval<Memory&>().make(0));

  MatrixView view() const { return {device_w_->data(), w_.dtype, w_.rows, w_.cols}; }
  static uint8_t* u8(const Buffer& buffer) { return static_cast<uint8_t*>(buffer->data()); }
  static float* f32(const Buffer& buffer) { return static_cast<float*>(buffer->data()); }
  Buffer floats(const std::vector<float>& values) { return memory_.upload(bytes_of(values)); }
  void add(const std::string& name, const Buffer& buffer) {
    results_.emplace_back(name, memory_.download(buffer));
  }

  void add_scaled() {
    const Buffer scale = floats(inputs_.column_scale);
    for (const float* const factors : std::initializer_list<const float*>{nullptr, f32(scale)}) {
      const Amax amax = amax_of_scaled(context_, view(), factors);
      results_.emplace_back("amax_of_scaled", bytes_of(std::vector<float>{amax.value}));
      results_.back().second.push_back(amax.finite ? 1 : 0);
      for (const int block : {16, 32}) {
        for (const float bound : scales_.amaxes) {
          const Buffer y = memory_.make(w_.bytes.size());
          fake_quantize_nvfp4_scaled(context_, view(), factors, block, bound, y->data());
          add("fake_quantize_nvfp4_scaled block " + std::to_string(block), y);
        }
      }
    }
    const Buffer in_place = memory_.upload(w_.bytes);
    fake_quantize_nvfp4_scaled(context_, {in_place->data(), w_.dtype, w_.rows, w_.cols}, f32(scale),
                               32, 1.0f, in_place->data());
    add("fake_quantize_nvfp4_scaled in place", in_place);
  }

  void add_nvfp4() {
    for (const int block : {16, 32}) {
      if (w_.cols % block != 0) continue;
      for (const float scale_2 : scales_.nvfp4) {
        const Buffer packed = memory_.make(static_cast<size_t>(w_.count() / 2));
        quantize_nvfp4_with_scales(context_, view(), block, u8(codes_), scale_2, u8(packed));
        add("quantize_nvfp4_with_scales block " + std::to_string(block), packed);
      }
    }
    const Buffer block_amax = floats(inputs_.block_amax);
    for (const float m : {448.0f, 256.0f}) {
      for (const Numerics numerics : {Numerics::kCpu, Numerics::kCuda}) {
        const auto count = static_cast<int64_t>(inputs_.block_amax.size());
        const Buffer scales = memory_.make(static_cast<size_t>(count));
        static_nvfp4_scales(context_, f32(block_amax), count, inputs_.global_amax, m, numerics,
                            u8(scales));
        add("static_nvfp4_scales", scales);
      }
    }
  }

  void add_search() {
    const Buffer block_amax = floats(inputs_.block_amax);
    const Buffer candidates = floats(inputs_.candidates);
    const Buffer hessian = floats(inputs_.hessian);
    for (const float m : {448.0f, 256.0f}) {
      for (const bool relative : {true, false}) {
        for (const float* const h : std::initializer_list<const float*>{nullptr, f32(hessian)}) {
          const Buffer best = memory_.make(inputs_.block_amax.size() * sizeof(float));
          search_nvfp4_blocks(context_, view(), relative ? nullptr : f32(block_amax),
                              inputs_.global_amax, m, f32(candidates),
                              static_cast<int64_t>(inputs_.candidates.size()), relative, h,
                              f32(best));
          add(h != nullptr ? "search_nvfp4_blocks_with_hessian" : "search_nvfp4_blocks", best);
        }
      }
    }
  }

  void add_mx() {
    const auto size = static_cast<size_t>(w_.count());
    const Buffer scales = memory_.make(size / 32);
    const Buffer packed = memory_.make(size / 2);
    const Buffer bytes = memory_.make(size);
    const Buffer values = memory_.make(w_.bytes.size());
    quantize_mxfp4(context_, view(), u8(packed), u8(scales));
    add("quantize_mxfp4 codes", packed);
    add("quantize_mxfp4 scales", scales);
    quantize_mxfp8(context_, view(), u8(bytes), u8(scales));
    add("quantize_mxfp8 codes", bytes);
    add("quantize_mxfp8 scales", scales);
    dequantize_mxfp4(context_, u8(codes_), u8(codes_), w_.rows, w_.cols, w_.dtype, values->data());
    add("dequantize_mxfp4", values);
    dequantize_mxfp8(context_, u8(codes_), u8(codes_), w_.rows, w_.cols, w_.dtype, values->data());
    add("dequantize_mxfp8", values);
  }

  void add_fake_mx() {
    const Buffer y = memory_.make(w_.bytes.size());
    fake_quantize_mxfp4(context_, view(), y->data());
    add("fake_quantize_mxfp4", y);
    fake_quantize_mxfp8(context_, view(), y->data());
    add("fake_quantize_mxfp8", y);
    const auto in_place = [&](const char* name, auto operation) {
      const Buffer own = memory_.upload(w_.bytes);
      operation(context_, MatrixView{own->data(), w_.dtype, w_.rows, w_.cols}, own->data());
      add(name, own);
    };
    in_place("fake_quantize_mxfp4 in place", fake_quantize_mxfp4);
    in_place("fake_quantize_mxfp8 in place", fake_quantize_mxfp8);
  }

  void add_nf4(int64_t block) {
    const auto blocks = static_cast<size_t>((w_.count() + block - 1) / block);
    const Buffer table = floats(nf4_table());
    const Buffer absmax = memory_.make(blocks * sizeof(float));
    const Buffer packed = memory_.make(static_cast<size_t>((w_.count() + 1) / 2));
    quantize_nf4(context_, view(), block, f32(table), f32(absmax), u8(packed));
    add("quantize_nf4 absmax", absmax);
    add("quantize_nf4 codes", packed);
    quantize_nf4_in_own_type(context_, view(), block, f32(table), f32(absmax), u8(packed));
    add("quantize_nf4_in_own_type absmax", absmax);
    add("quantize_nf4_in_own_type codes", packed);
    std::vector<float> factors;
    for (size_t b = 0; b < blocks; ++b) factors.push_back(float(b % 97) * 0.37f);
    const Buffer given = floats(factors);
    const Buffer values = memory_.make(w_.bytes.size());
    dequantize_nf4(context_, u8(codes_), f32(given), block, f32(table), w_.count(), w_.dtype,
                   values->data());
    add("dequantize_nf4", values);
  }

  Memory& memory_;
  Context context_;
  const Matrix& w_;
  Scales scales_;
  BlockInputs inputs_;
  Buffer device_w_;
  Buffer codes_;
  Results results_;
};

}  // namespace halftone::testing
