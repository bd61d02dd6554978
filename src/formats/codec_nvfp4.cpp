#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"
#include "kernels/check.h"
#include "kernels/nvfp4.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// NVFP4: E2M1 in blocks with E4M3 scales under one fp32 scale. Block scales follow from the weight
// (formats-and-hf-export.md, 2.9 and 2.11) or from frozen block amaxes (2.10).
class Nvfp4Codec : public Codec {
 public:
  explicit Nvfp4Codec(const Nvfp4Options& options) : options_(options) {}

  std::string name() const override {
    return concat("nvfp4 block ", options_.block, options_.frozen ? " frozen" : "", " / ",
                  options_.amax_divisor);
  }
  int64_t block() const override { return options_.block; }

  void check_shape(const std::string& module, int64_t out, int64_t in) const override {
    if (in % options_.block == 0) return;
    throw InputError(concat("'", module, ".weight' is [", out, ", ", in,
                            "]: NVFP4 needs the second ", "size to be a multiple of ",
                            options_.block, "; leave it out with a --recipe that disables '",
                            module, ".*'"));
  }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    return {{"weight", DType::kU8, {out, in / 2}},
            {"weight_scale", DType::kF8E4M3, {out, in / options_.block}},
            {"weight_scale_2", DType::kF32, {}}};
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return true; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& scales, Numerics numerics,
                    ThreadPool* pool) const override {
    // A zero weight, or one so small that its scale underflows, would get NaN block scales: any
    // positive second scale gives zero codes.
    float amax = scales.amax;
    if (!(divide_by_constant(amax, options_.amax_divisor, numerics) > 0.0f)) amax = 1.0f;
    const float scale_2 = divide_by_constant(amax, options_.amax_divisor, numerics);
    const int64_t out = w_NK.size(0);
    const int64_t in = w_NK.size(1);
    const auto bytes = w_NK.options().dtype(at::kByte);
    PackedLinear packed;
    packed["weight"] = at::empty({out, in / 2}, bytes);
    packed["weight_scale"] = at::empty({out, in / options_.block}, bytes);
    packed["weight_scale_2"] = scalar_tensor(scale_2);
    const Context context = context_of(w_NK, pool);
    auto* codes = packed["weight"].mutable_data_ptr<uint8_t>();
    auto* block_scales = packed["weight_scale"].mutable_data_ptr<uint8_t>();
    if (options_.frozen || scales.block_amax.defined()) {
      const at::Tensor block_amax =
          (scales.block_amax.defined() ? scales.block_amax
                                       : block_amax_of(w_NK, options_.block, pool))
              .contiguous();
      static_nvfp4_scales(context, block_amax.const_data_ptr<float>(), block_amax.numel(), amax,
                          options_.largest_scale, numerics, block_scales);
      quantize_nvfp4_with_scales(context, matrix_of(w_NK), options_.block, block_scales, scale_2,
                                 codes);
    } else {
      quantize_nvfp4(context, matrix_of(w_NK), options_.block, scale_2, codes, block_scales);
    }
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    const at::Tensor& block_scales = packed.at("weight_scale");
    const int64_t out = codes.size(0);
    const int64_t in = codes.size(1) * 2;
    at::Tensor w_NK = at::empty({out, in}, codes.options().dtype(dtype));
    dequantize_nvfp4(context_of(codes, pool), codes.const_data_ptr<uint8_t>(),
                     block_scales.const_data_ptr<uint8_t>(), out, in, options_.block,
                     packed.at("weight_scale_2").item<float>(), dtype_of(dtype),
                     w_NK.mutable_data_ptr());
    return w_NK;
  }

  at::Tensor candidate(const at::Tensor& w_NK, const at::Tensor& column_scale_K, float ratio,
                       ThreadPool* pool) const override {
    // The fused kernel knows the usual second-level scale only.
    if (options_.amax_divisor != kMaxNvfp4) {
      return Codec::candidate(w_NK, column_scale_K, ratio, pool);
    }
    const Context context = context_of(w_NK, pool);
    const float* columns =
        column_scale_K.defined() ? column_scale_K.const_data_ptr<float>() : nullptr;
    const float amax = amax_of_scaled(context, matrix_of(w_NK), columns).value;
    at::Tensor y_NK = at::empty_like(w_NK);
    fake_quantize_nvfp4_scaled(context, matrix_of(w_NK), columns, options_.block, amax * ratio,
                               y_NK.mutable_data_ptr());
    return y_NK;
  }

  const Nvfp4Options& options() const { return options_; }

 private:
  Nvfp4Options options_;
};

}  // namespace

std::shared_ptr<const Codec> make_nvfp4_codec(const Nvfp4Options& options) {
  return std::make_shared<const Nvfp4Codec>(options);
}

std::optional<float> frozen_nvfp4(const Codec& codec) {
  const auto* nvfp4 = dynamic_cast<const Nvfp4Codec*>(&codec);
  if (nvfp4 == nullptr || !nvfp4->options().frozen) return std::nullopt;
  return nvfp4->options().largest_scale;
}

bool is_plain_nvfp4(const Codec& codec) {
  const auto* nvfp4 = dynamic_cast<const Nvfp4Codec*>(&codec);
  return nvfp4 != nullptr && nvfp4->options().block == 16 &&
         nvfp4->options().amax_divisor == kMaxNvfp4;
}

std::shared_ptr<const Codec> match_nvfp4(const QuantizerSequence& weight,
                                         const InputFormat& input) {
  const Quantizer& only = weight.only();
  if (weight.stages.size() != 1 || !only.is_calibrated() || only.num_bits != kE2M1 || only.axis ||
      !only.block_sizes || only.block_sizes->scale_bits != kE4M3 ||
      only.block_sizes->second_last != 0) {
    return nullptr;
  }
  const BlockSizes& sizes = *only.block_sizes;
  if (sizes.last != 16 && sizes.last != 32) return nullptr;
  Nvfp4Options options;
  options.block = static_cast<int>(sizes.last);
  options.frozen = !sizes.dynamic;
  if (only.four_over_six) {
    if (!options.frozen) return nullptr;
    options.largest_scale = 256.0f;
    options.amax_divisor = 1536.0f;
  }
  if (input.kind == InputKind::kFp8) {
    if (options.frozen || sizes.last != 32) return nullptr;
    options.amax_divisor = kMaxE4M3;
  } else if (input.quantized() && (input.kind != InputKind::kNvfp4 || sizes.last != 16)) {
    return nullptr;
  }
  return make_nvfp4_codec(options);
}

}  // namespace halftone
