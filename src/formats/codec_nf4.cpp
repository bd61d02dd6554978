#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "formats/codecs.h"
#include "formats/tensor_bridge.h"
#include "kernels/nf4.h"

namespace halftone {
namespace {

constexpr int64_t kBlock = 64;
constexpr int64_t kScaleBlock = 256;
constexpr int64_t kScaleCodes = 256;

// QLoRA's NormalFloat (Dettmers et al. 2023) in the digits of bitsandbytes.
constexpr float kNf4Table[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

at::Tensor table_tensor() {
  at::Tensor table = at::empty({16}, at::kFloat);
  std::copy(std::begin(kNf4Table), std::end(kNf4Table), table.mutable_data_ptr<float>());
  return table;
}

// bitsandbytes' dynamic 8-bit map, ascending: seven decades, each with twice the steps of the one
// before, both signs, 0 and 1 (create_dynamic_map).
at::Tensor dynamic_map() {
  std::vector<float> values{0.0f, 1.0f};
  for (int64_t decade = 0; decade < 7; ++decade) {
    const at::Tensor bounds = at::linspace(0.1, 1.0, (int64_t{1} << decade) + 1, at::kFloat);
    const at::Tensor means = (bounds.slice(0, 0, -1) + bounds.slice(0, 1)) / 2.0;
    const at::Tensor scaled = means * std::pow(10.0, static_cast<double>(decade - 6));
    for (int64_t i = 0; i < scaled.numel(); ++i) {
      values.push_back(scaled[i].item<float>());
      values.push_back(-values.back());
    }
  }
  std::sort(values.begin(), values.end());
  at::Tensor map = at::empty({kScaleCodes}, at::kFloat);
  std::copy(values.begin(), values.end(), map.mutable_data_ptr<float>());
  return map;
}

uint8_t nearest_code(const float* map, float value) {
  const float* above = std::upper_bound(map, map + kScaleCodes, value);
  if (above == map) return 0;
  if (above == map + kScaleCodes) return kScaleCodes - 1;
  const float* below = above - 1;
  return static_cast<uint8_t>((*above - value < value - *below ? above : below) - map);
}

// The second quantization: block scales minus their mean, in blocks of 256 by the dynamic map.
struct NestedScales {
  at::Tensor codes;   // U8 [blocks]
  at::Tensor absmax;  // F32 [ceil(blocks / 256)]
  float offset = 0.0f;
};

NestedScales quantize_scales(const at::Tensor& absmax, const at::Tensor& map) {
  NestedScales nested;
  const int64_t blocks = absmax.numel();
  nested.offset = absmax.mean().item<float>();
  nested.codes = at::empty({blocks}, at::kByte);
  nested.absmax = at::empty({(blocks + kScaleBlock - 1) / kScaleBlock}, at::kFloat);
  const at::Tensor centred = absmax - nested.offset;
  const float* values = centred.const_data_ptr<float>();
  auto* codes = nested.codes.mutable_data_ptr<uint8_t>();
  auto* largest = nested.absmax.mutable_data_ptr<float>();
  for (int64_t begin = 0; begin < blocks; begin += kScaleBlock) {
    const int64_t end = std::min(begin + kScaleBlock, blocks);
    float most = 0.0f;
    for (int64_t i = begin; i < end; ++i) most = std::max(most, std::abs(values[i]));
    largest[begin / kScaleBlock] = most;
    for (int64_t i = begin; i < end; ++i) {
      codes[i] =
          nearest_code(map.const_data_ptr<float>(), most > 0.0f ? values[i] * (1.0f / most) : 0.0f);
    }
  }
  return nested;
}

at::Tensor dequantize_scales(const at::Tensor& codes, const at::Tensor& absmax,
                             const at::Tensor& map, float offset) {
  const at::Tensor largest = absmax.repeat_interleave(kScaleBlock).slice(0, 0, codes.numel());
  return (map.index_select(0, codes.to(at::kLong)) * largest + offset).contiguous();
}

const char* torch_name(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bfloat16" : dtype == at::kHalf ? "float16" : "float32";
}

// NF4 with double quantization in the serialized layout of bitsandbytes: what transformers reads
// with quant_method "bitsandbytes".
class Nf4Codec : public Codec {
 public:
  // state_bytes: of the JSON text, which is padded with spaces so that the size is known ahead.
  explicit Nf4Codec(int64_t state_bytes)
      : state_bytes_(state_bytes), table_(table_tensor()), map_(dynamic_map()) {}

  std::string name() const override { return "nf4"; }
  int64_t block() const override { return kBlock; }

  void check_shape(const std::string& module, int64_t out, int64_t in) const override {
    if (out * in % kBlock == 0) return;
    throw InputError(
        concat("'", module, ".weight' is [", out, ", ", in, "]: NF4 needs a multiple of ", kBlock,
               " elements; leave it out with a --recipe that disables '", module, ".*'"));
  }

  std::vector<TensorSpec> tensors(int64_t out, int64_t in) const override {
    const int64_t blocks = out * in / kBlock;
    return {{"weight", DType::kU8, {out * in / 2, 1}},
            {"weight.absmax", DType::kU8, {blocks}},
            {"weight.quant_map", DType::kF32, {16}},
            {"weight.nested_absmax", DType::kF32, {(blocks + kScaleBlock - 1) / kScaleBlock}},
            {"weight.nested_quant_map", DType::kF32, {kScaleCodes}},
            {kNf4State, DType::kU8, {state_bytes_}}};
  }

  bool uses_tensor_amax(int64_t /*out*/, int64_t /*in*/) const override { return false; }

  PackedLinear pack(const at::Tensor& w_NK, const WeightScales& /*scales*/, Numerics /*numerics*/,
                    ThreadPool* pool) const override {
    const auto device = w_NK.options();
    const at::Tensor table = table_.to(w_NK.device());
    at::Tensor absmax = at::empty({w_NK.numel() / kBlock}, device.dtype(at::kFloat));
    PackedLinear packed;
    packed["weight"] = at::empty({w_NK.numel() / 2, 1}, device.dtype(at::kByte));
    quantize_nf4(context_of(w_NK, pool), matrix_of(w_NK), kBlock, table.const_data_ptr<float>(),
                 absmax.mutable_data_ptr<float>(), packed["weight"].mutable_data_ptr<uint8_t>());
    const NestedScales nested = quantize_scales(absmax.cpu(), map_);
    packed["weight.absmax"] = nested.codes;
    packed["weight.quant_map"] = table_;
    packed["weight.nested_absmax"] = nested.absmax;
    packed["weight.nested_quant_map"] = map_;
    packed[kNf4State] = state_of(w_NK, nested.offset);
    return packed;
  }

  at::Tensor unpack(const PackedLinear& packed, at::ScalarType dtype,
                    ThreadPool* pool) const override {
    const at::Tensor& bytes = packed.at("weight");
    const State state = read_state(packed.at(kNf4State));
    const at::Tensor absmax =
        dequantize_scales(packed.at("weight.absmax").cpu(), packed.at("weight.nested_absmax").cpu(),
                          packed.at("weight.nested_quant_map").cpu(), state.offset)
            .to(bytes.device());
    const at::Tensor table = packed.at("weight.quant_map").to(bytes.device());
    check_counts(bytes, absmax, state);
    at::Tensor w_NK = at::empty({state.out, state.in}, bytes.options().dtype(dtype));
    dequantize_nf4(context_of(bytes, pool), bytes.const_data_ptr<uint8_t>(),
                   absmax.const_data_ptr<float>(), kBlock, table.const_data_ptr<float>(),
                   w_NK.numel(), dtype_of(dtype), w_NK.mutable_data_ptr());
    return w_NK;
  }

  // Blocks run across rows.
  int64_t row_multiple() const override { return 0; }

 private:
  struct State {
    int64_t out = 0;
    int64_t in = 0;
    float offset = 0.0f;
  };

  at::Tensor state_of(const at::Tensor& w_NK, float offset) const {
    const Json json{{"quant_type", "nf4"},
                    {"blocksize", kBlock},
                    {"dtype", torch_name(w_NK.scalar_type())},
                    {"shape", {w_NK.size(0), w_NK.size(1)}},
                    {"nested_blocksize", kScaleBlock},
                    {"nested_dtype", "float32"},
                    {"nested_offset", static_cast<double>(offset)}};
    std::string text = json.dump();
    text.resize(static_cast<size_t>(state_bytes_), ' ');
    at::Tensor bytes = at::empty({state_bytes_}, at::kByte);
    std::memcpy(bytes.mutable_data_ptr<uint8_t>(), text.data(), text.size());
    return bytes;
  }

  static State read_state(const at::Tensor& bytes) {
    const at::Tensor host = bytes.cpu().contiguous();
    const auto* text = reinterpret_cast<const char*>(host.const_data_ptr<uint8_t>());
    const std::string source = "quant_state.bitsandbytes__nf4";
    const Json json = parse_json(std::string(text, static_cast<size_t>(host.numel())), source);
    const auto found = json.find("shape");
    const bool matrix = found != json.end() && found->is_array() && found->size() == 2 &&
                        (*found)[0].is_number_unsigned() && (*found)[1].is_number_unsigned();
    if (!matrix || json_member<int64_t>(json, "blocksize", source) != kBlock ||
        json_member<int64_t>(json, "nested_blocksize", source) != kScaleBlock) {
      throw InputError(source + ": only 2-D weights in blocks of 64 with nested blocks of 256");
    }
    return {(*found)[0].get<int64_t>(), (*found)[1].get<int64_t>(),
            static_cast<float>(json_member<double>(json, "nested_offset", source))};
  }

  static void check_counts(const at::Tensor& bytes, const at::Tensor& absmax, const State& state) {
    const int64_t count = bytes.numel() * 2;
    const bool fits = state.in > 0 && count % state.in == 0 && state.out == count / state.in &&
                      absmax.numel() * kBlock == count;
    if (fits) return;
    throw InputError("quant_state.bitsandbytes__nf4: the shape is not that of the stored bytes");
  }

  int64_t state_bytes_;
  at::Tensor table_;
  at::Tensor map_;
};

// Room for the longest numbers that the state can hold.
constexpr int64_t kStateBytes = 224;

}  // namespace

std::shared_ptr<const Codec> make_nf4_codec(int64_t state_bytes) {
  return std::make_shared<const Nf4Codec>(state_bytes);
}

std::shared_ptr<const Codec> match_nf4(const QuantizerSequence& weight, const InputFormat& input) {
  const Quantizer& only = weight.only();
  const bool ours = weight.stages.size() == 1 && only.is_calibrated() && only.codebook == "nf4" &&
                    only.num_bits == kInt4 && only.block_sizes &&
                    only.block_sizes->last == kBlock && only.scale_block == kScaleBlock &&
                    !input.quantized();
  static const auto codec = make_nf4_codec(kStateBytes);
  return ours ? codec : nullptr;
}

}  // namespace halftone
