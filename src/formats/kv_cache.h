#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "core/json.h"
#include "formats/quantizer.h"

namespace halftone {

// How the KV cache is stored (formats-and-hf-export.md, 1.3 and 2.13).
enum class KvFormat : uint8_t {
  kNone,
  kFp8,
  kFp8Cast,  // scale 1
  kFp8Affine,
  kNvfp4,
  kNvfp4Cast,  // amax 448
  kNvfp4Affine,
  kNvfp4Rotate,  // keys pass through a Hadamard rotation
};

// UsageError naming the attention module when the quantizers are of no known kind, or keys and
// values do not go together.
KvFormat kv_format_of(const QuantizerSequence& key, const QuantizerSequence& value,
                      const std::string& attention);

// Whether scales are calibrated and written; whether a bias of [heads, head_dim] is beside them.
bool has_scales(KvFormat format);
bool has_bias(KvFormat format);
bool rotates_keys(KvFormat format);

// kv_cache_quant_algo, and kv_cache_scheme of config.json (formats-and-hf-export.md, 4).
const char* kv_algo_of(KvFormat format);
Json kv_scheme_of(KvFormat format);
// The format of a checkpoint with this scheme, by the tensors that it has. Null when unknown.
std::optional<KvFormat> kv_format_of_scheme(const Json& scheme, bool scales, bool bias);

// Keys or values, as calibrated.
struct CacheScale {
  float amax = 0.0f;   // of what is quantized: minus the bias, rotated
  at::Tensor bias_HD;  // F32 [heads, head_dim], rounded to the model's dtype; undefined: none
};

// K or V [B, heads, T, dim] as the cache gives them back. `scale` is ignored where the format has
// none.
at::Tensor fake_quantize_kv(KvFormat format, bool is_key, const at::Tensor& states_BHTD,
                            const CacheScale& scale);

// x times the orthonormal Hadamard matrix along the last dimension, a power of two (checked).
at::Tensor hadamard(const at::Tensor& x);

}  // namespace halftone
