#pragma once

#include <ATen/ATen.h>

#include <cstdio>
#include <string>
#include <vector>

#include "formats/codecs.h"
#include "kernels/numeric_types.h"

namespace halftone::test {

// The bytes of a tensor as the specification prints them.
inline std::string hex(const at::Tensor& tensor) {
  const at::Tensor host = tensor.contiguous();
  const auto* bytes = static_cast<const uint8_t*>(host.const_data_ptr());
  std::string text;
  char two[3];
  for (size_t i = 0; i < host.nbytes(); ++i) {
    std::snprintf(two, sizeof two, "%02x", bytes[i]);
    text += two;
  }
  return text;
}

inline at::Tensor from_hex(const std::string& text, const std::vector<int64_t>& shape) {
  at::Tensor tensor = at::empty(shape, at::kBFloat16);
  auto* bytes = static_cast<uint8_t*>(tensor.mutable_data_ptr());
  for (size_t i = 0; i < tensor.nbytes(); ++i) {
    bytes[i] = static_cast<uint8_t>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return tensor;
}

// W and V of formats-and-hf-export.md, 8.1 and 8.2.
inline at::Tensor matrix_w() {
  return from_hex(
      "f8bfc03ea8bf803f30bf008080bde0bf103f90bf983f00bfe83f003ec8bf403f"
      "70bfb03fa0be0040a03eb0bf703f40bfc83f00bee8bf003f98bf903f10bfe03f"
      "b03ea0bd003fa03db0be703e40bec83e00bde8be003e98be903e10bee03e803c"
      "000000000000000000bb00000000000000000000000000000000000000000000",
      {2, 32});
}

inline at::Tensor matrix_v() {
  return from_hex(
      "cd3d4dbe9a3e333f66bf8d3fa63fdabf553c4d3da9be1c3f453f81bfbf3fd83f"
      "4dbdcd3d1abeb3bee63e0dbf26bf5a3fd5bbcdbc293e9cbec5be013f3fbf58bf",
      {2, 16});
}

inline float largest(const at::Tensor& x) {
  return x.to(at::kFloat).abs().max().item<float>();
}

// With the weight's own amaxes.
inline PackedLinear pack(const Codec& codec, const at::Tensor& w,
                         Numerics numerics = Numerics::kCpu) {
  return codec.pack(w, {largest(w), {}}, numerics, nullptr);
}

// Every codec with every kind of parameter.
inline std::vector<std::shared_ptr<const Codec>> every_codec() {
  return {
      make_fp8_codec(),
      make_fp8_rows_codec(),
      make_fp8_tiles_codec(128),
      make_fp8_tiles_codec(16),
      make_int8_codec(),
      make_int4_codec(16, false),
      make_int4_codec(32, true),
      make_nvfp4_codec({}),
      make_nvfp4_codec({32, 2688.0f, false, 448.0f}),
      make_nvfp4_codec({32, 448.0f, false, 448.0f}),
      make_nvfp4_codec({16, 2688.0f, true, 448.0f}),
      make_nvfp4_codec({16, 1536.0f, true, 256.0f}),
      make_mxfp4_codec(),
      make_mxfp8_codec(),
  };
}

}  // namespace halftone::test
