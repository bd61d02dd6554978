#include "formats/linear_format.h"

namespace halftone {

bool same_format(const LinearFormat& a, const LinearFormat& b) {
  if (!a.quantized() || !b.quantized()) return a.quantized() == b.quantized();
  return a.codec->name() == b.codec->name() && a.input == b.input && a.smoothing == b.smoothing &&
         a.low_rank == b.low_rank;
}

std::string format_name(const LinearFormat& format) {
  const std::string kind = format.codec->name();
  const bool fp8_input =
      format.input.kind == InputKind::kFp8 || format.input.kind == InputKind::kFp8Dynamic;
  if (kind == "fp8 per channel") return "fp8_pc_pt";
  if (kind.starts_with("fp8 tiles")) return "fp8_pb_wo";
  if (kind == "int8") return format.input.quantized() ? "int8_sq" : "int8_wo";
  if (kind.starts_with("int4")) return format.input.quantized() ? "w4a8_awq" : "int4_awq";
  if (kind == "mxfp4") return fp8_input ? "w4a8_mxfp4_fp8" : "mxfp4";
  if (!kind.starts_with("nvfp4")) return kind;  // fp8, mxfp8, nf4
  if (!format.input.quantized()) return "w4a16_nvfp4";
  if (fp8_input) return "w4a8_nvfp4_fp8";
  if (format.smoothing == Smoothing::kSvdQuant) return "nvfp4_svdquant";
  return format.smoothing == Smoothing::kAwq ? "nvfp4_awq" : "nvfp4";
}

std::vector<TensorSpec> stored_tensors(const LinearFormat& format, int64_t out, int64_t in,
                                       DType model_dtype) {
  if (format.form) return format.form->tensors(format, out, in);
  std::vector<TensorSpec> specs = format.codec->tensors(out, in);
  if (format.input.has_scale()) specs.push_back({"input_scale", DType::kF32, {}});
  if (format.pre_quant_scale == PreQuantScale::kStored) {
    specs.push_back({"pre_quant_scale", model_dtype, {in}});
  }
  if (format.low_rank > 0) {
    specs.push_back({kLowRankA, model_dtype, {format.low_rank, in}});
    specs.push_back({kLowRankB, model_dtype, {out, format.low_rank}});
  }
  return specs;
}

PackedLinear unified_tensors(const std::string& module, const LinearFormat& format,
                             PackedLinear stored) {
  return format.form ? format.form->decode(module, format, stored) : std::move(stored);
}

}  // namespace halftone
