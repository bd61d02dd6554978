#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "formats/quantizer.h"
#include "io/safetensors.h"
#include "kernels/context.h"

namespace halftone {

// What calibration says of one linear.
struct LinearScales {
  // amax of the weight in the model's dtype, unified over its fused group where the format asks.
  float weight_amax = 0.0f;
  // amax of the input in the compute dtype; absent when the input is not quantized.
  std::optional<float> input_amax;
  DType input_dtype = DType::kF32;
};

// Tensors of one linear in stored form, by suffix ("weight", "weight_scale", ...); bytes are uint8,
// scales float32, block scales the bytes of e4m3.
using PackedLinear = std::map<std::string, at::Tensor>;

// The entry of a format in hf_quant_config.json and config.json (formats-and-hf-export.md, 4).
struct QuantAlgo {
  std::string name;  // "NVFP4"
  Json extras = Json::object();
  // input_activations and weights of a config group; null: the format has no config group.
  Json config_group;

  bool operator==(const QuantAlgo&) const = default;
};

// One weight format: how a linear is stored and computed. Stateless.
class Codec {
 public:
  virtual ~Codec() = default;

  virtual std::string name() const = 0;  // internal identifier, "nvfp4"
  virtual bool matches(const LinearQuantizers& quantizers) const = 0;
  virtual QuantAlgo algo() const = 0;
  // Throws InputError naming the linear when a weight of [out, in] cannot be stored.
  virtual void check_shape(const std::string& module, int64_t out, int64_t in) const = 0;
  // Stored tensors of a linear, names being suffixes.
  virtual std::vector<TensorSpec> tensors(int64_t out, int64_t in, bool input_quantized) const = 0;
  // Whether linears that engines merge must share one weight amax.
  virtual bool unifies_weight_amax() const = 0;

  // w_NK: [out, in] in the model's dtype, contiguous. `numerics` as in kernels/context.h.
  virtual PackedLinear pack(const at::Tensor& w_NK, const LinearScales& scales, Numerics numerics,
                            ThreadPool* pool) const = 0;
  // The weight that the packed form stands for, in `dtype`.
  virtual at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                            ThreadPool* pool) const = 0;
  // The input's amax that a stored input_scale stands for.
  virtual float amax_of_input_scale(float input_scale) const = 0;
  // An input as the engine's kernels see it: quantized with `amax` and read back.
  virtual at::Tensor fake_quantize_input(const at::Tensor& x, float amax) const = 0;
};

// The explicit list of codecs, in the order in which they are tried.
const std::vector<const Codec*>& codecs();
// Null when the weight is not quantized; UsageError naming the module when no codec stores it.
const Codec* codec_for(const LinearQuantizers& quantizers, const std::string& module);
// By the name in a checkpoint's quantization config; null when unknown.
const Codec* codec_for_algo(const std::string& quant_algo);

}  // namespace halftone
