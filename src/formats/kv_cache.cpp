#include "formats/kv_cache.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "formats/input_format.h"
#include "kernels/check.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

bool is_fp8(const Quantizer& quantizer) {
  return quantizer.num_bits == kE4M3 && !quantizer.axis && !quantizer.block_sizes;
}

bool is_nvfp4(const Quantizer& quantizer) {
  return quantizer.num_bits == kE2M1 && !quantizer.axis &&
         quantizer.block_sizes == BlockSizes{16, 0, true, kE4M3};
}

std::optional<KvFormat> format_of(const QuantizerSequence& sequence) {
  if (!sequence.enabled()) return KvFormat::kNone;
  const Quantizer& only = sequence.only();
  const bool fp8 = is_fp8(only);
  if (sequence.stages.size() != 1 || (!fp8 && !is_nvfp4(only))) return std::nullopt;
  if (only.use_constant_amax && !only.dynamic && !only.constant_amax && !only.bias) {
    return fp8 ? KvFormat::kFp8Cast : KvFormat::kNvfp4Cast;
  }
  if (!only.is_calibrated()) return std::nullopt;
  if (only.rotate) {
    return fp8 || only.bias ? std::nullopt : std::optional(KvFormat::kNvfp4Rotate);
  }
  if (only.bias) return fp8 ? KvFormat::kFp8Affine : KvFormat::kNvfp4Affine;
  return fp8 ? KvFormat::kFp8 : KvFormat::kNvfp4;
}

bool is_nvfp4(KvFormat format) {
  return format == KvFormat::kNvfp4 || format == KvFormat::kNvfp4Cast ||
         format == KvFormat::kNvfp4Affine || format == KvFormat::kNvfp4Rotate;
}

}  // namespace

KvFormat kv_format_of(const QuantizerSequence& key, const QuantizerSequence& value,
                      const std::string& attention) {
  const auto k = format_of(key);
  const auto v = format_of(value);
  if (!k || !v) {
    throw UsageError(concat("the recipe gives the KV cache of '", attention,
                            "' a format that is not supported; supported: fp8 and nvfp4, each "
                            "calibrated, cast or affine, and nvfp4 with rotated keys"));
  }
  // Only keys are rotated.
  if (k == v || (k == KvFormat::kNvfp4Rotate && v == KvFormat::kNvfp4)) return *k;
  throw UsageError(
      concat("the recipe gives keys and values of '", attention, "' different formats"));
}

bool has_scales(KvFormat format) {
  return format != KvFormat::kNone && format != KvFormat::kFp8Cast &&
         format != KvFormat::kNvfp4Cast;
}

bool has_bias(KvFormat format) {
  return format == KvFormat::kFp8Affine || format == KvFormat::kNvfp4Affine;
}

bool rotates_keys(KvFormat format) {
  return format == KvFormat::kNvfp4Rotate;
}

const char* kv_algo_of(KvFormat format) {
  check(format != KvFormat::kNone, "no cache format has no name");
  if (format == KvFormat::kNvfp4Affine) return "NVFP4_AFFINE";
  return is_nvfp4(format) ? "NVFP4" : "FP8";
}

Json kv_scheme_of(KvFormat format) {
  if (is_nvfp4(format)) return kv_algo_of(format);
  return {{"dynamic", false}, {"num_bits", 8}, {"type", "float"}};
}

std::optional<KvFormat> kv_format_of_scheme(const Json& scheme, bool scales, bool bias) {
  if (scheme.is_null()) return KvFormat::kNone;
  if (scheme == kv_scheme_of(KvFormat::kFp8)) {
    return bias ? KvFormat::kFp8Affine : scales ? KvFormat::kFp8 : KvFormat::kFp8Cast;
  }
  // The files do not say whether the keys are rotated.
  if (scheme == "NVFP4") return scales ? KvFormat::kNvfp4 : KvFormat::kNvfp4Cast;
  if (scheme == "NVFP4_AFFINE" && scales && bias) return KvFormat::kNvfp4Affine;
  return std::nullopt;
}

at::Tensor fake_quantize_kv(KvFormat format, bool is_key, const at::Tensor& states_BHTD,
                            const CacheScale& scale) {
  if (format == KvFormat::kNone) return states_BHTD;
  const InputKind kind = is_nvfp4(format) ? InputKind::kNvfp4 : InputKind::kFp8;
  // A cast has scale 1 (FP8), or an amax of 448 (NVFP4; calibration.md, 3.8).
  const float amax = has_scales(format) ? scale.amax : kMaxE4M3;
  if (rotates_keys(format) && is_key) {
    return hadamard(fake_quantize_input(kind, hadamard(states_BHTD), amax));
  }
  if (!scale.bias_HD.defined()) return fake_quantize_input(kind, states_BHTD, amax);
  const at::Tensor bias_1H1D =
      scale.bias_HD.unsqueeze(1).unsqueeze(0).to(states_BHTD.device(), states_BHTD.scalar_type());
  return fake_quantize_input(kind, states_BHTD - bias_1H1D, amax) + bias_1H1D;
}

at::Tensor hadamard(const at::Tensor& x) {
  const int64_t size = x.size(-1);
  check(size > 0 && (size & (size - 1)) == 0, "a Hadamard rotation needs a power of two");
  at::Tensor y = x.to(at::kFloat).contiguous();
  for (int64_t half = 1; half < size; half *= 2) {
    const at::Tensor pairs = y.view({-1, size / (2 * half), 2, half});
    const at::Tensor a = pairs.select(2, 0);
    const at::Tensor b = pairs.select(2, 1);
    y = at::stack({a + b, a - b}, 2);
  }
  return (y.view(x.sizes()) * (1.0 / std::sqrt(static_cast<double>(size)))).to(x.scalar_type());
}

}  // namespace halftone
