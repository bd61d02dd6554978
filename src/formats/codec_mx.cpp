#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/mx.h"

namespace halftone {
namespace {

constexpr int64_t kBlock = 32;

void check_blocks(const std::string& module, int64_t out, int64_t in) {
  if (in % kBlock == 0) return;
  throw InputError(concat("'", module, ".weight' is [", out, ", ", in,
                          "]: MX formats need the second size to be a multiple of ", kBlock,
                          "; leave it out with a --recipe that disables '", module, ".*'"));
}

// E2M1 in blocks of 32 with power-of-two scales (formats-and-hf-export.md, 2.12).
class Mxfp4Codec : public Codec {
 public:
  std::string name() const override { return "mxfp4"; }
  int64_t block() const override { return kBlock; }

  void check_shape(const std::string& module, int64_t out, int64_t in) const override {
    check_blocks(module, out, in);
  }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    return {{"weight", DType::kU8, {out, in / 2}},
            {"weight_scale", DType::kU8, {out, in / kBlock}}};
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& /*scales*/, Numerics /*numerics*/,
                    ThreadPool* pool) const override {
    const auto bytes = w_NK.options().dtype(at::kByte);
    PackedLinear packed;
    packed["weight"] = at::empty({w_NK.size(0), w_NK.size(1) / 2}, bytes);
    packed["weight_scale"] = at::empty({w_NK.size(0), w_NK.size(1) / kBlock}, bytes);
    quantize_mxfp4(context_of(w_NK, pool), matrix_of(w_NK),
                   packed["weight"].mutable_data_ptr<uint8_t>(),
                   packed["weight_scale"].mutable_data_ptr<uint8_t>());
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    const int64_t in = codes.size(1) * 2;
    at::Tensor w_NK = at::empty({codes.size(0), in}, codes.options().dtype(dtype));
    dequantize_mxfp4(context_of(codes, pool), codes.const_data_ptr<uint8_t>(),
                     packed.at("weight_scale").const_data_ptr<uint8_t>(), codes.size(0), in,
                     dtype_of(dtype), w_NK.mutable_data_ptr());
    return w_NK;
  }
};

// E4M3 in blocks of 32 with power-of-two scales (formats-and-hf-export.md, 2.12).
class Mxfp8Codec : public Codec {
 public:
  std::string name() const override { return "mxfp8"; }
  int64_t block() const override { return kBlock; }

  void check_shape(const std::string& module, int64_t out, int64_t in) const override {
    check_blocks(module, out, in);
  }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    return {{"weight", DType::kF8E4M3, {out, in}},
            {"weight_scale", DType::kU8, {out, in / kBlock}}};
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& /*scales*/, Numerics /*numerics*/,
                    ThreadPool* pool) const override {
    const auto bytes = w_NK.options().dtype(at::kByte);
    PackedLinear packed;
    packed["weight"] = at::empty(w_NK.sizes(), bytes);
    packed["weight_scale"] = at::empty({w_NK.size(0), w_NK.size(1) / kBlock}, bytes);
    quantize_mxfp8(context_of(w_NK, pool), matrix_of(w_NK),
                   packed["weight"].mutable_data_ptr<uint8_t>(),
                   packed["weight_scale"].mutable_data_ptr<uint8_t>());
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    at::Tensor w_NK = at::empty(codes.sizes(), codes.options().dtype(dtype));
    dequantize_mxfp8(context_of(codes, pool), codes.const_data_ptr<uint8_t>(),
                     packed.at("weight_scale").const_data_ptr<uint8_t>(), codes.size(0),
                     codes.size(1), dtype_of(dtype), w_NK.mutable_data_ptr());
    return w_NK;
  }
};

bool is_mx(const QuantizerSequence& weight, const NumberFormat& element) {
  const Quantizer& only = weight.only();
  return weight.stages.size() == 1 && only.is_calibrated() && only.num_bits == element &&
         !only.axis && only.block_sizes == BlockSizes{kBlock, 0, true, kE8M0};
}

}  // namespace

std::shared_ptr<const Codec> make_mxfp4_codec() {
  static const auto codec = std::make_shared<const Mxfp4Codec>();
  return codec;
}

std::shared_ptr<const Codec> make_mxfp8_codec() {
  static const auto codec = std::make_shared<const Mxfp8Codec>();
  return codec;
}

std::shared_ptr<const Codec> match_mxfp4(const QuantizerSequence& weight,
                                         const InputFormat& input) {
  const bool served = !input.quantized() || input.kind == InputKind::kMxfp4 ||
                      input.kind == InputKind::kFp8 || input.kind == InputKind::kFp8Dynamic;
  return is_mx(weight, kE2M1) && served ? make_mxfp4_codec() : nullptr;
}

std::shared_ptr<const Codec> match_mxfp8(const QuantizerSequence& weight,
                                         const InputFormat& input) {
  return is_mx(weight, kE4M3) && input.kind == InputKind::kMxfp8 ? make_mxfp8_codec() : nullptr;
}

}  // namespace halftone
