#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/codec.h"
#include "formats/input_format.h"
#include "formats/stored_form.h"

namespace halftone {

// What an algorithm adds to a codec.
enum class Smoothing : uint8_t {
  kNone,
  kSmoothQuant,  // a pre-quantization scale of the input
  kAwq,          // the same, folded away where that is possible
  kSvdQuant,     // the same, and a low-rank branch
};

// Where the scale goes that multiplies the input before it is quantized
// (formats-and-hf-export.md, 3.3).
enum class PreQuantScale : uint8_t {
  kNone,
  kStored,      // `pre_quant_scale` beside the weight
  kInNorm,      // multiplied into the norm that makes the input
  kInPrevious,  // multiplied into the rows of the linear that makes the input
};

// How one linear is stored and served.
struct LinearFormat {
  std::shared_ptr<const Codec> codec;  // null: not quantized
  InputFormat input;
  Smoothing smoothing = Smoothing::kNone;
  PreQuantScale pre_quant_scale = PreQuantScale::kNone;
  int64_t low_rank = 0;  // of the branch beside the quantized weight
  // Of another library; null: the tensors of a unified checkpoint.
  std::shared_ptr<const StoredForm> form = {};

  bool quantized() const { return codec != nullptr; }
};

// The reference's identifier of a quantized linear's format (formats-and-hf-export.md, 1.7):
// "nvfp4", "nvfp4_awq", "int8_wo", ...
std::string format_name(const LinearFormat& format);

// Whether engines may merge two linears of these formats.
bool same_format(const LinearFormat& a, const LinearFormat& b);

// Every stored tensor of a quantized linear, names being suffixes: the form's, or the codec's,
// `input_scale`, `pre_quant_scale` and the low-rank factors (formats-and-hf-export.md, 3.2).
std::vector<TensorSpec> stored_tensors(const LinearFormat& format, int64_t out, int64_t in,
                                       DType model_dtype);

// What was read of them as a unified checkpoint has it, whatever the form. `module` is for errors.
PackedLinear unified_tensors(const std::string& module, const LinearFormat& format,
                             PackedLinear stored);

inline constexpr const char* kLowRankA = "svdquant_lora_a";  // [rank, in]
inline constexpr const char* kLowRankB = "svdquant_lora_b";  // [out, rank]

}  // namespace halftone
