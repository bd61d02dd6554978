#include "formats/input_format.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"
#include "kernels/check.h"
#include "kernels/fp8.h"
#include "kernels/int8.h"
#include "kernels/mx.h"
#include "kernels/nvfp4.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

InputKind kind_of_blocks(const Quantizer& quantizer) {
  const BlockSizes& blocks = *quantizer.block_sizes;
  if (blocks.second_last != 0) return InputKind::kNone;
  // A token's scale is found at every call, whichever of the two places says so.
  const bool dynamic = blocks.dynamic || quantizer.dynamic;
  if (blocks.last == kWholeAxis) {
    const bool tokens = dynamic && quantizer.num_bits == kE4M3 && !blocks.scale_bits;
    return tokens ? InputKind::kFp8Token : InputKind::kNone;
  }
  if (!blocks.dynamic || quantizer.dynamic) return InputKind::kNone;
  if (blocks.last == 16 && blocks.scale_bits == kE4M3 && quantizer.num_bits == kE2M1) {
    return InputKind::kNvfp4;
  }
  if (blocks.last != 32 || blocks.scale_bits != kE8M0) return InputKind::kNone;
  if (quantizer.num_bits == kE2M1) return InputKind::kMxfp4;
  return quantizer.num_bits == kE4M3 ? InputKind::kMxfp8 : InputKind::kNone;
}

InputKind kind_of(const Quantizer& quantizer) {
  if (quantizer.axis || quantizer.use_constant_amax) return InputKind::kNone;
  if (quantizer.block_sizes) {
    return kind_of_blocks(quantizer);
  }
  if (quantizer.num_bits == kE4M3) {
    return quantizer.dynamic ? InputKind::kFp8Dynamic : InputKind::kFp8;
  }
  return quantizer.num_bits == kInt8 && !quantizer.dynamic ? InputKind::kInt8 : InputKind::kNone;
}

float bound_of(InputKind kind) {
  switch (kind) {
    case InputKind::kFp8:
      return kMaxE4M3;
    case InputKind::kInt8:
      return kMaxInt8;
    case InputKind::kNvfp4:
      return kMaxE2M1;
    default:
      break;
  }
  check(false, "this input format has no scale");
  return 1.0f;
}

// What the amax is divided by: NVFP4's second-level scale leaves room for the block scales.
float divisor_of(InputKind kind) {
  return kind == InputKind::kNvfp4 ? kMaxNvfp4 : bound_of(kind);
}

}  // namespace

bool InputFormat::has_scale() const {
  return kind == InputKind::kFp8 || kind == InputKind::kInt8 || kind == InputKind::kNvfp4;
}

const char* name_of(InputKind kind) {
  switch (kind) {
    case InputKind::kNone:
      return "none";
    case InputKind::kFp8:
      return "fp8";
    case InputKind::kFp8Dynamic:
      return "fp8 dynamic";
    case InputKind::kFp8Token:
      return "fp8 per token";
    case InputKind::kInt8:
      return "int8";
    case InputKind::kNvfp4:
      return "nvfp4";
    case InputKind::kMxfp4:
      return "mxfp4";
    case InputKind::kMxfp8:
      return "mxfp8";
  }
  return "";
}

InputFormat input_format_of(const QuantizerSequence& quantizer, const std::string& module) {
  InputFormat format;
  if (!quantizer.enabled()) return format;
  if (quantizer.stages.size() == 1) format.kind = kind_of(quantizer.only());
  if (format.kind == InputKind::kNone) {
    throw UsageError(concat("the recipe gives '", module,
                            ".input_quantizer' a format that is not supported; supported: fp8 per "
                            "tensor or per token, int8 per tensor, nvfp4, mxfp4, mxfp8"));
  }
  format.constant_amax = quantizer.only().constant_amax;
  return format;
}

float input_scale_of(InputKind kind, float amax, DType dtype, Numerics numerics) {
  return divide_by_constant(sanitize_amax(amax, bound_of(kind), dtype), divisor_of(kind), numerics);
}

float amax_of_input_scale(InputKind kind, float input_scale) {
  return input_scale * divisor_of(kind);
}

at::Tensor fake_quantize_input(InputKind kind, const at::Tensor& x, float amax) {
  if (kind == InputKind::kNone) return x;
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  const Context context = context_of(source, nullptr);
  const MatrixView view = matrix_of(source);
  void* out = y.mutable_data_ptr();
  switch (kind) {
    case InputKind::kNone:
      break;
    case InputKind::kFp8:
      fake_quantize_fp8(context, view, amax, out);
      break;
    case InputKind::kFp8Dynamic:
      fake_quantize_fp8(context, view, amax_of_tensor(context, view).value, out);
      break;
    case InputKind::kFp8Token:
      fake_quantize_fp8_tokens(context, view, out);
      break;
    case InputKind::kInt8:
      fake_quantize_int8(context, view, amax, out);
      break;
    case InputKind::kNvfp4:
      fake_quantize_nvfp4(context, view, amax, out);
      break;
    case InputKind::kMxfp4:
      fake_quantize_mxfp4(context, view, out);
      break;
    case InputKind::kMxfp8:
      fake_quantize_mxfp8(context, view, out);
      break;
  }
  return y;
}

}  // namespace halftone
