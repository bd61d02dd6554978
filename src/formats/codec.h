#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/input_format.h"
#include "formats/quantizer.h"
#include "io/safetensors.h"
#include "kernels/context.h"

namespace halftone {

// What decides the scales of a weight.
struct WeightScales {
  // amax of the weight in the model's dtype, shared by fused linears where the codec asks for it.
  float amax = 0.0f;
  // F32 [out, ceil(in/block)]: amaxes of blocks (or rows) that a search chose; undefined: the
  // weight's own.
  at::Tensor block_amax;
};

// Tensors of one linear in stored form, by suffix ("weight", "weight_scale", ...); bytes are uint8,
// scales float32, block scales the bytes of e4m3.
using PackedLinear = std::map<std::string, at::Tensor>;

// One way to store a weight. Immutable.
class Codec {
 public:
  virtual ~Codec() = default;

  // The kind and its parameters: "int4 block 128". Codecs of one name are the same.
  virtual std::string name() const = 0;
  // The run of input channels that shares a scale; 0: the whole row or more.
  virtual int64_t block() const { return 0; }
  // Throws InputError naming the linear when a weight of [out, in] cannot be stored.
  virtual void check_shape(const std::string& /*module*/, int64_t /*out*/, int64_t /*in*/) const {}
  // Stored tensors of the weight, names being suffixes.
  virtual std::vector<TensorSpec> tensors(int64_t out, int64_t in) const = 0;
  // Whether one amax of the whole weight enters its scales.
  virtual bool uses_tensor_amax(int64_t out, int64_t in) const = 0;
  // Whether linears that read one tensor share that amax (formats-and-hf-export.md, 3.3).
  virtual bool unifies_groups() const { return true; }

  // w_NK: [out, in] in the model's dtype, contiguous. `numerics` as in kernels/context.h.
  virtual PackedLinear pack(const at::Tensor& w_NK, const WeightScales& scales, Numerics numerics,
                            ThreadPool* pool) const = 0;
  // The weight that the packed form stands for, in `dtype`.
  virtual at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                            ThreadPool* pool) const = 0;
  // How many output channels a piece that rows() can take is a multiple of; 0: none.
  virtual int64_t row_multiple() const { return 1; }
  // Views: the packed form of output channels [begin, end), both multiples of row_multiple() or the
  // end of the weight.
  virtual PackedLinear rows(const PackedLinear& packed, int64_t begin, int64_t end) const;
  // What a search compares: T(w * column_scale) quantized with its own amaxes times `ratio` and
  // read back, in w's dtype T. column_scale_K: F32 [in] or undefined.
  virtual at::Tensor candidate(const at::Tensor& w_NK, const at::Tensor& column_scale_K,
                               float ratio, ThreadPool* pool) const;
};

// Null when the weight is not quantized; UsageError naming the module when no codec stores it.
std::shared_ptr<const Codec> codec_for(const QuantizerSequence& weight, const InputFormat& input,
                                       const std::string& module);

}  // namespace halftone
