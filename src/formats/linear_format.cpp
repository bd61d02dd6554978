#include "formats/linear_format.h"

namespace halftone {

bool same_format(const LinearFormat& a, const LinearFormat& b) {
  if (!a.quantized() || !b.quantized()) return a.quantized() == b.quantized();
  return a.codec->name() == b.codec->name() && a.input == b.input && a.smoothing == b.smoothing &&
         a.low_rank == b.low_rank;
}

std::vector<TensorSpec> stored_tensors(const LinearFormat& format, int64_t out, int64_t in,
                                       DType model_dtype) {
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

}  // namespace halftone
