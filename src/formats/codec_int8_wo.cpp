#include <ATen/ATen.h>

#include "core/error.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/amax.h"
#include "kernels/check.h"
#include "kernels/int8.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

// INT8, one scale per output channel, inputs as they are (formats-and-hf-export.md, 2.6).
class Int8WeightOnlyCodec : public Codec {
 public:
  std::string name() const override { return "int8_wo"; }

  bool matches(const LinearQuantizers& quantizers) const override {
    const Quantizer& weight = quantizers.weight.only();
    return quantizers.weight.stages.size() == 1 && weight.is_calibrated() &&
           weight.num_bits == kInt8 && weight.axis == 0 && !quantizers.input.enabled();
  }

  QuantAlgo algo() const override { return {"W8A16", Json::object(), nullptr}; }

  void check_shape(const std::string& /*module*/, int64_t /*out*/, int64_t /*in*/) const override {}

  std::vector<TensorSpec> tensors(int64_t out, int64_t in,
                                  bool /*input_quantized*/) const override {
    return {{"weight", DType::kI8, {out, in}}, {"weight_scale", DType::kF32, {out}}};
  }

  bool unifies_weight_amax() const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const LinearScales& /*scales*/, Numerics numerics,
                    ThreadPool* pool) const override {
    const Context context = context_of(w_NK, pool);
    at::Tensor scale_N = at::empty({w_NK.size(0)}, w_NK.options().dtype(at::kFloat));
    amax_of_rows(context, matrix_of(w_NK), scale_N.mutable_data_ptr<float>());
    at::Tensor on_host = scale_N.cpu();
    const DType dtype = dtype_of(w_NK.scalar_type());
    float* scales = on_host.mutable_data_ptr<float>();
    for (int64_t row = 0; row < on_host.numel(); ++row) {
      scales[row] =
          divide_by_constant(sanitize_amax(scales[row], kMaxInt8, dtype), kMaxInt8, numerics);
    }
    scale_N.copy_(on_host);
    PackedLinear packed;
    packed["weight"] = at::empty(w_NK.sizes(), w_NK.options().dtype(at::kChar));
    quantize_int8_rows(context, matrix_of(w_NK), scale_N.const_data_ptr<float>(),
                       packed["weight"].mutable_data_ptr<int8_t>());
    packed["weight_scale"] = on_host;
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& codes = packed.at("weight");
    const at::Tensor scale_N = packed.at("weight_scale").to(codes.device());
    at::Tensor w_NK = at::empty(codes.sizes(), codes.options().dtype(dtype));
    dequantize_int8_rows(context_of(codes, pool), codes.const_data_ptr<int8_t>(), codes.size(0),
                         codes.size(1), scale_N.const_data_ptr<float>(), dtype_of(dtype),
                         w_NK.mutable_data_ptr());
    return w_NK;
  }

  float amax_of_input_scale(float /*input_scale*/) const override {
    check(false, "weight-only formats have no input scale");
    return 0.0f;
  }

  at::Tensor fake_quantize_input(const at::Tensor& x, float /*amax*/) const override { return x; }
};

}  // namespace

const Codec& int8_weight_only_codec() {
  static const Int8WeightOnlyCodec codec;
  return codec;
}

}  // namespace halftone
