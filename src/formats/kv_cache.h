#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "formats/quantizer.h"

namespace halftone {

// How the KV cache is stored (formats-and-hf-export.md, 2.13).
enum class KvFormat { kNone, kFp8, kFp8Cast };

// UsageError naming the attention module when the quantizer is of no known kind.
KvFormat kv_format_of(const QuantizerSequence& quantizer, const std::string& attention);

// Whether scales are calibrated and written.
bool has_scales(KvFormat format);

// K or V as the cache gives them back. amax is ignored where the format has no scales.
at::Tensor fake_quantize_kv(KvFormat format, const at::Tensor& states, float amax);

}  // namespace halftone
