#include <ATen/ATen.h>

#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/fp8.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// FP8 E4M3, one scale per output channel (formats-and-hf-export.md, 2.4).
class Fp8RowsCodec : public Codec {
 public:
  std::string name() const override { return "fp8 per channel"; }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    return {{"weight", DType::kF8E4M3, {out, in}}, {"weight_scale", DType::kF32, {out}}};
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    const at::Tensor amax =
        scales.block_amax.defined() ? scales.block_amax : block_amax_of(w_NK, w_NK.size(1), pool);
    const at::Tensor scale_N =
        scales_of_amaxes(amax, kMaxE4M3, dtype_of(w_NK.scalar_type()), numerics)
            .reshape({w_NK.size(0)});
    const at::Tensor on_device = scale_N.to(w_NK.device());
    PackedLinear packed;
    packed["weight"] = at::empty(w_NK.sizes(), w_NK.options().dtype(at::kByte));
    packed["weight_scale"] = scale_N;
    quantize_fp8_rows(context_of(w_NK, pool), matrix_of(w_NK), on_device.const_data_ptr<float>(),
                      packed["weight"].mutable_data_ptr<uint8_t>());
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    const at::Tensor scale_N = packed.at("weight_scale").to(codes.device());
    at::Tensor w_NK = at::empty(codes.sizes(), codes.options().dtype(dtype));
    dequantize_fp8_rows(context_of(codes, pool), codes.const_data_ptr<uint8_t>(), codes.size(0),
                        codes.size(1), scale_N.const_data_ptr<float>(), dtype_of(dtype),
                        w_NK.mutable_data_ptr());
    return w_NK;
  }
};

}  // namespace

std::shared_ptr<const Codec> make_fp8_rows_codec() {
  static const auto codec = std::make_shared<const Fp8RowsCodec>();
  return codec;
}

std::shared_ptr<const Codec> match_fp8_rows(const QuantizerSequence& weight,
                                            const InputFormat& input) {
  const Quantizer& only = weight.only();
  const bool ours = weight.stages.size() == 1 && only.is_calibrated() && only.num_bits == kE4M3 &&
                    only.axis == 0 && !only.block_sizes && input.kind == InputKind::kFp8Token;
  return ours ? make_fp8_rows_codec() : nullptr;
}

}  // namespace halftone
