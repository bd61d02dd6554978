#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "formats/quantizer.h"
#include "kernels/context.h"

namespace halftone {

// How the input of a linear is quantized where the model is served.
enum class InputKind : uint8_t {
  kNone,        // as it is
  kFp8,         // E4M3, one calibrated scale
  kFp8Dynamic,  // E4M3, one scale found at every call
  kFp8Token,    // E4M3, a scale per token found at every call
  kInt8,        // one calibrated scale
  kNvfp4,       // E2M1 in blocks of 16 under one calibrated scale
  kMxfp4,       // E2M1 in blocks of 32 with power-of-two scales, nothing to calibrate
  kMxfp8,       // E4M3, the same
};

struct InputFormat {
  InputKind kind = InputKind::kNone;
  // Pinned by the recipe instead of calibrated.
  std::optional<double> constant_amax;

  bool quantized() const { return kind != InputKind::kNone; }
  // Whether a checkpoint stores an `input_scale`.
  bool has_scale() const;
  // Whether the scale comes from calibration data.
  bool needs_amax() const { return has_scale() && !constant_amax; }

  bool operator==(const InputFormat&) const = default;
};

const char* name_of(InputKind kind);

// UsageError naming the module when no kind has these quantizers.
InputFormat input_format_of(const QuantizerSequence& quantizer, const std::string& module);

// The stored scale of an input whose amax is of `dtype`, sanitised (formats-and-hf-export.md, 2.2),
// and the amax that a stored scale stands for. Kinds with a scale only.
float input_scale_of(InputKind kind, float amax, DType dtype, Numerics numerics);
float amax_of_input_scale(InputKind kind, float input_scale);

// An input as the serving engine's kernels see it: quantized and read back (calibration.md, 3).
// `amax` is ignored by the kinds without a scale.
at::Tensor fake_quantize_input(InputKind kind, const at::Tensor& x, float amax);

}  // namespace halftone
