#include "formats/kv_cache.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "kernels/scale.h"

namespace halftone {

KvFormat kv_format_of(const QuantizerSequence& quantizer, const std::string& attention) {
  if (!quantizer.enabled()) return KvFormat::kNone;
  const Quantizer& only = quantizer.only();
  if (quantizer.stages.size() == 1 && is_fp8_per_tensor(only)) {
    if (only.is_calibrated()) return KvFormat::kFp8;
    if (only.use_constant_amax && !only.dynamic && !only.constant_amax) return KvFormat::kFp8Cast;
  }
  throw UsageError(concat("the recipe gives the KV cache of '", attention,
                          "' a format that is not supported; supported: none, fp8, fp8_cast"));
}

bool has_scales(KvFormat format) {
  return format == KvFormat::kFp8;
}

at::Tensor fake_quantize_kv(KvFormat format, const at::Tensor& states, float amax) {
  if (format == KvFormat::kNone) return states;
  return fp8_codec().fake_quantize_input(states, format == KvFormat::kFp8Cast ? kMaxE4M3 : amax);
}

}  // namespace halftone
