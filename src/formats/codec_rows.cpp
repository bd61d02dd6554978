#include <ATen/ATen.h>

#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/fp8.h"
#include "kernels/int8.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// E4M3 codes (formats-and-hf-export.md, 2.4).
struct Fp8Rows {
  using Code = uint8_t;
  static constexpr const char* kName = "fp8 per channel";
  static constexpr DType kStored = DType::kF8E4M3;
  static constexpr at::ScalarType kCodes = at::kByte;
  static constexpr float kMax = kMaxE4M3;
  static constexpr auto kQuantize = &quantize_fp8_rows;
  static constexpr auto kDequantize = &dequantize_fp8_rows;
};

// INT8 codes (formats-and-hf-export.md, 2.6).
struct Int8Rows {
  using Code = int8_t;
  static constexpr const char* kName = "int8";
  static constexpr DType kStored = DType::kI8;
  static constexpr at::ScalarType kCodes = at::kChar;
  static constexpr float kMax = kMaxInt8;
  static constexpr auto kQuantize = &quantize_int8_rows;
  static constexpr auto kDequantize = &dequantize_int8_rows;
};

// A byte for each weight, one scale per output channel.
template <typename Rows>
class RowsCodec : public Codec {
 public:
  std::string name() const override { return Rows::kName; }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    return {{"weight", Rows::kStored, {out, in}}, {"weight_scale", DType::kF32, {out}}};
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    const at::Tensor amax =
        scales.block_amax.defined() ? scales.block_amax : block_amax_of(w_NK, w_NK.size(1), pool);
    const at::Tensor scale_N =
        scales_of_amaxes(amax, Rows::kMax, dtype_of(w_NK.scalar_type()), numerics)
            .reshape({w_NK.size(0)});
    const at::Tensor on_device = scale_N.to(w_NK.device());
    PackedLinear packed;
    packed["weight"] = at::empty(w_NK.sizes(), w_NK.options().dtype(Rows::kCodes));
    packed["weight_scale"] = scale_N;
    Rows::kQuantize(context_of(w_NK, pool), matrix_of(w_NK), on_device.const_data_ptr<float>(),
                    packed["weight"].mutable_data_ptr<typename Rows::Code>());
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    const at::Tensor scale_N = packed.at("weight_scale").to(codes.device());
    at::Tensor w_NK = at::empty(codes.sizes(), codes.options().dtype(dtype));
    Rows::kDequantize(context_of(codes, pool), codes.const_data_ptr<typename Rows::Code>(),
                      codes.size(0), codes.size(1), scale_N.const_data_ptr<float>(),
                      dtype_of(dtype), w_NK.mutable_data_ptr());
    return w_NK;
  }
};

bool has_rows_of(const QuantizerSequence& weight, const NumberFormat& codes) {
  const Quantizer& only = weight.only();
  return weight.stages.size() == 1 && only.is_calibrated() && only.num_bits == codes &&
         only.axis == 0 && !only.block_sizes;
}

}  // namespace

std::shared_ptr<const Codec> make_fp8_rows_codec() {
  static const auto codec = std::make_shared<const RowsCodec<Fp8Rows>>();
  return codec;
}

std::shared_ptr<const Codec> make_int8_codec() {
  static const auto codec = std::make_shared<const RowsCodec<Int8Rows>>();
  return codec;
}

std::shared_ptr<const Codec> match_fp8_rows(const QuantizerSequence& weight,
                                            const InputFormat& input) {
  const bool ours = has_rows_of(weight, kE4M3) && input.kind == InputKind::kFp8Token;
  return ours ? make_fp8_rows_codec() : nullptr;
}

std::shared_ptr<const Codec> match_int8(const QuantizerSequence& weight, const InputFormat& input) {
  const bool ours =
      has_rows_of(weight, kInt8) && (!input.quantized() || input.kind == InputKind::kInt8);
  return ours ? make_int8_codec() : nullptr;
}

}  // namespace halftone
