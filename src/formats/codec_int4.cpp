#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/int4.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// INT4 in blocks along the input channels, two output channels in a byte
// (formats-and-hf-export.md, 2.7); W4A8 carries the scale of an FP8 stage beside it (2.8).
class Int4Codec : public Codec {
 public:
  Int4Codec(int64_t block, bool second_scale) : block_(block), second_scale_(second_scale) {}

  std::string name() const override {
    return concat("int4 block ", block_, second_scale_ ? " then fp8" : "");
  }
  int64_t block() const override { return block_; }

  void check_shape(const std::string& module, int64_t out, int64_t in) const override {
    if (in % block_ == 0 && out % 2 == 0) return;
    throw InputError(concat("'", module, ".weight' is [", out, ", ", in,
                            "]: INT4 needs an even first size and a second one that is a multiple "
                            "of the block of ",
                            block_, "; leave it out with a --recipe that disables '", module,
                            ".*', or choose another block size in its block_sizes"));
  }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    std::vector<TensorSpec> specs{{"weight", DType::kU8, {out / 2, in}},
                                  {"weight_scale", DType::kF32, {out, in / block_}}};
    if (second_scale_) specs.push_back({"weight_scale_2", DType::kF32, {}});
    return specs;
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return second_scale_; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    const DType dtype = dtype_of(w_NK.scalar_type());
    const at::Tensor amax =
        scales.block_amax.defined() ? scales.block_amax : block_amax_of(w_NK, block_, pool);
    const at::Tensor scale_NB = scales_of_amaxes(amax, kMaxInt4, dtype, numerics);
    const at::Tensor on_device = scale_NB.to(w_NK.device());
    PackedLinear packed;
    packed["weight"] = at::empty({w_NK.size(0) / 2, w_NK.size(1)}, w_NK.options().dtype(at::kByte));
    packed["weight_scale"] = scale_NB;
    quantize_int4(context_of(w_NK, pool), matrix_of(w_NK), block_,
                  on_device.const_data_ptr<float>(), packed["weight"].mutable_data_ptr<uint8_t>());
    if (second_scale_) {
      packed["weight_scale_2"] = scalar_tensor(
          divide_by_constant(sanitize_amax(scales.amax, kMaxE4M3, dtype), kMaxE4M3, numerics));
    }
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& bytes = packed.at("weight");
    const at::Tensor scale_NB = packed.at("weight_scale").to(bytes.device()).contiguous();
    const int64_t out = bytes.size(0) * 2;
    at::Tensor w_NK = at::empty({out, bytes.size(1)}, bytes.options().dtype(dtype));
    dequantize_int4(context_of(bytes, pool), bytes.const_data_ptr<uint8_t>(), out, bytes.size(1),
                    block_, scale_NB.const_data_ptr<float>(), dtype_of(dtype),
                    w_NK.mutable_data_ptr());
    return w_NK;
  }

  int64_t row_multiple() const override { return 2; }

  PackedLinear rows(const PackedLinear& packed, int64_t begin, int64_t end) const override {
    PackedLinear piece = packed;
    piece["weight"] = packed.at("weight").slice(0, begin / 2, end / 2);
    piece["weight_scale"] = packed.at("weight_scale").slice(0, begin, end);
    return piece;
  }

  at::Tensor candidate(const at::Tensor& w_NK, const at::Tensor& column_scale_K, float ratio,
                       ThreadPool* pool) const override {
    at::Tensor y_NK = at::empty_like(w_NK);
    fake_quantize_int4(context_of(w_NK, pool), matrix_of(w_NK),
                       column_scale_K.defined() ? column_scale_K.const_data_ptr<float>() : nullptr,
                       block_, nullptr, ratio, y_NK.mutable_data_ptr());
    return y_NK;
  }

 private:
  int64_t block_;
  bool second_scale_;
};

}  // namespace

std::shared_ptr<const Codec> make_int4_codec(int64_t block, bool second_scale) {
  return std::make_shared<const Int4Codec>(block, second_scale);
}

std::shared_ptr<const Codec> match_int4(const QuantizerSequence& weight, const InputFormat& input) {
  const Quantizer& first = weight.only();
  if (!first.is_calibrated() || first.num_bits != kInt4 || !first.block_sizes || first.axis) {
    return nullptr;
  }
  const BlockSizes& sizes = *first.block_sizes;
  if (sizes.last < 1 || sizes.second_last != 0 || sizes.dynamic || sizes.scale_bits ||
      !first.codebook.empty()) {
    return nullptr;
  }
  if (weight.stages.size() == 1) {
    return input.quantized() ? nullptr : make_int4_codec(sizes.last, false);
  }
  const Quantizer& second = weight.stages.back();
  const bool w4a8 = weight.stages.size() == 2 && second.is_calibrated() &&
                    second.num_bits == kE4M3 && !second.axis && !second.block_sizes &&
                    input.kind == InputKind::kFp8;
  return w4a8 ? make_int4_codec(sizes.last, true) : nullptr;
}

}  // namespace halftone
