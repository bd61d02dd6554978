#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "kernels/int8.h"
#include "kernels/nvfp4.h"
#include "tests/kernels/support.h"

namespace halftone::testing {

using Bytes = std::vector<uint8_t>;
using Results = std::vector<std::pair<std::string, Bytes>>;

// What the operations are called with for a matrix: fitting scales, scales that are too small
// (codes saturate) and too large (codes are subnormal or zero).
struct Scales {
  float amax = 0.0f;
  std::vector<float> fp8;
  std::vector<std::vector<float>> int8_rows;
  std::vector<float> nvfp4;
  std::vector<float> amaxes;
};

inline Scales scales_of(const Matrix& w) {
  Scales scales;
  std::vector<float> rows(static_cast<size_t>(w.rows), 0.0f);
  for (int64_t i = 0; i < w.count(); ++i) {
    if (!std::isfinite(w.at(i))) continue;
    float& row = rows[static_cast<size_t>(i / w.cols)];
    row = std::max(row, std::abs(static_cast<float>(w.at(i))));
  }
  for (const float row : rows) scales.amax = std::max(scales.amax, row);
  for (const float factor : {1.0f, 0.9f, 40.0f}) {
    const auto positive = [factor](float amax, float bound) {
      const float scale = std::min(amax / bound, 1e36f) * factor;
      return scale > 0.0f ? scale : 1.0f;
    };
    scales.fp8.push_back(positive(scales.amax, 448.0f));
    scales.nvfp4.push_back(positive(scales.amax, 2688.0f));
    scales.int8_rows.emplace_back();
    for (const float row : rows) scales.int8_rows.back().push_back(positive(row, 127.0f));
  }
  scales.amaxes = {scales.amax, scales.amax * 0.5f, 0.0f, 448.0f};
  return scales;
}

// All codes, in an order without a pattern that a vector could repeat.
inline Bytes codes_of(int64_t count) {
  Bytes codes(static_cast<size_t>(count));
  uint32_t state = 12345;
  for (uint8_t& code : codes) {
    state = state * 1664525u + 1013904223u;
    code = static_cast<uint8_t>(state >> 24);
  }
  return codes;
}

template <typename T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Runs every operation on `w` in every way. Memory has make(bytes) and upload(Bytes), which return
// something with data(), and download(that).
template <typename Memory>
Results every_operation(Memory& memory, const Context& context, const Matrix& w) {
  const Scales scales = scales_of(w);
  const auto size = static_cast<size_t>(w.count());
  const auto device_w = memory.upload(w.bytes);
  const MatrixView view{device_w->data(), w.dtype, w.rows, w.cols};
  const auto device_codes = memory.upload(codes_of(w.count()));
  const auto u8 = [](const auto& buffer) { return static_cast<uint8_t*>(buffer->data()); };
  Results results;

  const Amax amax = amax_of_tensor(context, view);
  results.emplace_back("amax_of_tensor", bytes_of(std::vector<float>{amax.value}));
  results.back().second.push_back(amax.finite ? 1 : 0);
  const auto rows = memory.make(static_cast<size_t>(w.rows) * sizeof(float));
  amax_of_rows(context, view, static_cast<float*>(rows->data()));
  results.emplace_back("amax_of_rows", memory.download(rows));

  for (const float scale : scales.fp8) {
    const std::string text = " scale " + std::to_string(scale);
    const auto codes = memory.make(size);
    for (const Numerics numerics : {Numerics::kCpu, Numerics::kCuda}) {
      quantize_fp8(context, view, scale, numerics, u8(codes));
      const std::string profile = numerics == Numerics::kCpu ? " cpu" : " cuda";
      results.emplace_back("quantize_fp8" + profile + text, memory.download(codes));
    }
    const auto values = memory.make(w.bytes.size());
    dequantize_fp8(context, u8(device_codes), w.rows, w.cols, scale, w.dtype, values->data());
    results.emplace_back("dequantize_fp8" + text, memory.download(values));
  }
  for (const std::vector<float>& scale_N : scales.int8_rows) {
    const auto scale = memory.upload(bytes_of(scale_N));
    const auto* data = static_cast<const float*>(scale->data());
    const auto codes = memory.make(size);
    quantize_int8_rows(context, view, data, reinterpret_cast<int8_t*>(u8(codes)));
    results.emplace_back("quantize_int8_rows", memory.download(codes));
    const auto values = memory.make(w.bytes.size());
    dequantize_int8_rows(context, reinterpret_cast<const int8_t*>(u8(device_codes)), w.rows, w.cols,
                         data, w.dtype, values->data());
    results.emplace_back("dequantize_int8_rows", memory.download(values));
  }
  for (const int block : {16, 32}) {
    if (w.cols % block != 0) continue;
    for (const float scale_2 : scales.nvfp4) {
      const std::string text = " block " + std::to_string(block) + " " + std::to_string(scale_2);
      const auto packed = memory.make(size / 2);
      const auto block_scales = memory.make(size / static_cast<size_t>(block));
      quantize_nvfp4(context, view, block, scale_2, u8(packed), u8(block_scales));
      results.emplace_back("quantize_nvfp4 codes" + text, memory.download(packed));
      results.emplace_back("quantize_nvfp4 scales" + text, memory.download(block_scales));
      const auto values = memory.make(w.bytes.size());
      // The first half of the codes as pairs of nibbles, and from the start again as block scales.
      dequantize_nvfp4(context, u8(device_codes), u8(device_codes), w.rows, w.cols, block, scale_2,
                       w.dtype, values->data());
      results.emplace_back("dequantize_nvfp4" + text, memory.download(values));
    }
  }
  for (const float bound : scales.amaxes) {
    const std::string text = " amax " + std::to_string(bound);
    const auto y = memory.make(w.bytes.size());
    fake_quantize_fp8(context, view, bound, y->data());
    results.emplace_back("fake_quantize_fp8" + text, memory.download(y));
    fake_quantize_nvfp4(context, view, bound, y->data());
    results.emplace_back("fake_quantize_nvfp4" + text, memory.download(y));
    const auto in_place = memory.upload(w.bytes);
    const MatrixView own{in_place->data(), w.dtype, w.rows, w.cols};
    fake_quantize_fp8(context, own, bound, in_place->data());
    results.emplace_back("fake_quantize_fp8 in place" + text, memory.download(in_place));
    const auto again = memory.upload(w.bytes);
    const MatrixView owned{again->data(), w.dtype, w.rows, w.cols};
    fake_quantize_nvfp4(context, owned, bound, again->data());
    results.emplace_back("fake_quantize_nvfp4 in place" + text, memory.download(again));
  }
  return results;
}

struct HostMemory {
  struct Buffer {
    Bytes bytes;
    void* data() { return bytes.data(); }
  };
  static std::shared_ptr<Buffer> make(size_t size) { return upload(Bytes(size)); }
  static std::shared_ptr<Buffer> upload(Bytes bytes) {
    return std::make_shared<Buffer>(Buffer{std::move(bytes)});
  }
  static Bytes download(const std::shared_ptr<Buffer>& buffer) { return buffer->bytes; }
};

}  // namespace halftone::testing
