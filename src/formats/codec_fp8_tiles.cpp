#include <ATen/ATen.h>

#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// FP8 E4M3, one scale per tile of 128 x 128, edge tiles partial (formats-and-hf-export.md, 2.5).
class Fp8TilesCodec : public Codec {
 public:
  explicit Fp8TilesCodec(int64_t tile) : tile_(tile) {}

  std::string name() const override { return concat("fp8 tiles of ", tile_); }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    return {{"weight", DType::kF8E4M3, {out, in}},
            {"weight_scale", DType::kF32, scale_shape(out, in)}};
  }

  // The scale of a weight of one tile is a scalar, and shared like one.
  bool uses_tensor_amax(int64_t out, int64_t in) const override {
    return out <= tile_ && in <= tile_;
  }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    const int64_t out = w_NK.size(0);
    const int64_t in = w_NK.size(1);
    const Context context = context_of(w_NK, pool);
    at::Tensor amax = at::empty({(out + tile_ - 1) / tile_, (in + tile_ - 1) / tile_},
                                w_NK.options().dtype(at::kFloat));
    if (uses_tensor_amax(out, in)) {
      amax.fill_(scales.amax);
    } else {
      amax_of_tiles(context, matrix_of(w_NK), tile_, amax.mutable_data_ptr<float>());
    }
    const at::Tensor scale =
        scales_of_amaxes(amax, kMaxE4M3, dtype_of(w_NK.scalar_type()), numerics);
    const at::Tensor on_device = scale.to(w_NK.device());
    PackedLinear packed;
    packed["weight"] = at::empty(w_NK.sizes(), w_NK.options().dtype(at::kByte));
    packed["weight_scale"] = scale.reshape(scale_shape(out, in));
    quantize_fp8_tiles(context, matrix_of(w_NK), tile_, on_device.const_data_ptr<float>(),
                       packed["weight"].mutable_data_ptr<uint8_t>());
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    const at::Tensor scale = packed.at("weight_scale").to(codes.device()).contiguous();
    at::Tensor w_NK = at::empty(codes.sizes(), codes.options().dtype(dtype));
    dequantize_fp8_tiles(context_of(codes, pool), codes.const_data_ptr<uint8_t>(), codes.size(0),
                         codes.size(1), tile_, scale.const_data_ptr<float>(), dtype_of(dtype),
                         w_NK.mutable_data_ptr());
    return w_NK;
  }

  int64_t row_multiple() const override { return tile_; }

  PackedLinear rows(const PackedLinear& packed, int64_t begin, int64_t end) const override {
    PackedLinear piece = packed;
    piece["weight"] = packed.at("weight").slice(0, begin, end);
    at::Tensor& scale = piece["weight_scale"];
    if (scale.dim() > 0) scale = scale.slice(0, begin / tile_, (end + tile_ - 1) / tile_);
    return piece;
  }

 private:
  std::vector<int64_t> scale_shape(int64_t out, int64_t in) const {
    if (uses_tensor_amax(out, in)) return {};
    return {(out + tile_ - 1) / tile_, 1, (in + tile_ - 1) / tile_, 1};
  }

  int64_t tile_;
};

}  // namespace

std::shared_ptr<const Codec> make_fp8_tiles_codec(int64_t tile) {
  return std::make_shared<const Fp8TilesCodec>(tile);
}

std::shared_ptr<const Codec> match_fp8_tiles(const QuantizerSequence& weight,
                                             const InputFormat& input) {
  const Quantizer& only = weight.only();
  const bool ours = weight.stages.size() == 1 && only.is_calibrated() && only.num_bits == kE4M3 &&
                    only.block_sizes == BlockSizes{128, 128, false, {}} && !input.quantized();
  return ours ? make_fp8_tiles_codec(only.block_sizes->last) : nullptr;
}

}  // namespace halftone
