#include "formats/codec.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "formats/codecs.h"
#include "formats/kv_cache.h"
#include "formats/tensor_bridge.h"
#include "kernels/thread_pool.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"

namespace halftone::test {
namespace {

constexpr const char* kFp8 = "{num_bits: e4m3}";
constexpr const char* kNvfp4 =
    "{num_bits: e2m1, block_sizes: {-1: 16, type: dynamic, scale_bits: e4m3}}";
constexpr const char* kInt8Rows = "{num_bits: 8, axis: 0}";

const Codec* codec_of(const std::string& weight, const std::string& input) {
  LinearQuantizers quantizers{sequence_of(weight), {}};
  if (!input.empty()) quantizers.input = sequence_of(input);
  return codec_for(quantizers, "model.x");
}

TEST(CodecRegistry, FindsTheFormatOfAPairOfQuantizers) {
  EXPECT_EQ(codec_of(kFp8, kFp8), &fp8_codec());
  EXPECT_EQ(codec_of(kNvfp4, kNvfp4), &nvfp4_codec());
  EXPECT_EQ(codec_of(kInt8Rows, ""), &int8_weight_only_codec());
  EXPECT_EQ(codec_for({}, "x"), nullptr) << "off";
  EXPECT_EQ(codec_of("{num_bits: e4m3, enable: false}", kFp8), nullptr);
}

TEST(CodecRegistry, RefusesWhatItCannotStore) {
  const std::pair<const char*, const char*> pairs[] = {
      {kFp8, ""},
      {kFp8, kNvfp4},
      {kNvfp4, ""},
      {kNvfp4, kFp8},
      {kInt8Rows, kInt8Rows},
      {"{num_bits: 8}", ""},
      {"{num_bits: 8, axis: 1}", ""},
      {"{num_bits: 4, axis: 0}", ""},
      {"{num_bits: e4m3, axis: 0}", kFp8},
      {"{num_bits: e4m3, type: dynamic}", kFp8},
      {"{num_bits: e4m3, block_sizes: {-1: 128}}", kFp8},
      {kFp8, "{num_bits: e4m3, type: dynamic}"},
      {"{num_bits: e2m1, block_sizes: {-1: 32, type: dynamic, scale_bits: e4m3}}", kNvfp4},
      {"{num_bits: e2m1, block_sizes: {-1: 16, scale_bits: e4m3}}", kNvfp4},
      {"{num_bits: e2m1, block_sizes: {-1: 16, type: dynamic, scale_bits: e8m0}}", kNvfp4},
      // What would be ignored is refused: constants, and scales found anew at every call.
      {kFp8, "{num_bits: e4m3, constant_amax: 448}"},
      {kFp8, "{num_bits: e4m3, use_constant_amax: true}"},
      {"{num_bits: e4m3, constant_amax: 2}", kFp8},
      {"{num_bits: 8, axis: 0, constant_amax: 2}", ""},
      {kNvfp4,
       "{num_bits: e2m1, type: dynamic, block_sizes: {-1: 16, type: dynamic, "
       "scale_bits: e4m3}}"},
      {kNvfp4,
       "{num_bits: e2m1, constant_amax: 2688, block_sizes: {-1: 16, type: dynamic, "
       "scale_bits: e4m3}}"},
  };
  for (const auto& [weight, input] : pairs) {
    SCOPED_TRACE(std::string(weight) + " " + input);
    expect_error<UsageError>([w = weight, i = input] { codec_of(w, i); }, "'model.x'");
  }
  LinearQuantizers sequence{sequence_of(kFp8), sequence_of(kFp8)};
  sequence.weight.stages.push_back(quantizer_of(kFp8));
  expect_error<UsageError>([&] { codec_for(sequence, "m"); },
                           "no format stores; formats: fp8, nvfp4");
}

TEST(CodecRegistry, ByTheNameInACheckpoint) {
  EXPECT_EQ(codec_for_algo("FP8"), &fp8_codec());
  EXPECT_EQ(codec_for_algo("NVFP4"), &nvfp4_codec());
  EXPECT_EQ(codec_for_algo("W8A16"), &int8_weight_only_codec());
  EXPECT_EQ(codec_for_algo("fp8"), nullptr);
  EXPECT_EQ(codec_for_algo(""), nullptr);
}

TEST(CodecTensors, AsTheTableSays) {  // formats-and-hf-export.md, 3.2
  const auto text = [](const Codec& codec, bool input) {
    std::string all;
    for (const TensorSpec& spec : codec.tensors(64, 32, input)) {
      all += spec.name + " " + name_of(spec.dtype) + " " + shape_text(spec.shape) + "; ";
    }
    return all;
  };
  EXPECT_EQ(text(fp8_codec(), true),
            "weight F8_E4M3 [64, 32]; weight_scale F32 []; input_scale F32 []; ");
  EXPECT_EQ(text(fp8_codec(), false), "weight F8_E4M3 [64, 32]; weight_scale F32 []; ");
  EXPECT_EQ(text(nvfp4_codec(), true),
            "weight U8 [64, 16]; weight_scale F8_E4M3 [64, 2]; weight_scale_2 F32 []; "
            "input_scale F32 []; ");
  EXPECT_EQ(text(int8_weight_only_codec(), false), "weight I8 [64, 32]; weight_scale F32 [64]; ");
  EXPECT_TRUE(nvfp4_codec().unifies_weight_amax());
  EXPECT_FALSE(fp8_codec().unifies_weight_amax());
}

at::Tensor sample(at::ScalarType dtype) {
  return (at::sin(at::arange(96 * 64, at::kFloat)) * 0.7).view({96, 64}).to(dtype);
}

LinearScales scales_of(const at::Tensor& w) {
  return {w.to(at::kFloat).abs().max().item<float>(), 3.0f, DType::kBF16};
}

TEST(CodecPack, GivesExactlyThePlannedTensors) {
  for (const Codec* codec : codecs()) {
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf, at::kFloat}) {
      const at::Tensor w = sample(dtype);
      LinearScales scales = scales_of(w);
      const bool input = codec != &int8_weight_only_codec();
      if (!input) scales.input_amax.reset();
      const PackedLinear packed = codec->pack(w, scales, Numerics::kCpu, nullptr);
      const std::vector<TensorSpec> specs = codec->tensors(96, 64, input);
      EXPECT_EQ(packed.size(), specs.size()) << codec->name();
      for (const TensorSpec& spec : specs) {
        EXPECT_EQ(packed.at(spec.name).sizes().vec(), spec.shape) << spec.name;
        EXPECT_EQ(packed.at(spec.name).scalar_type(), scalar_type_of(spec.dtype)) << spec.name;
      }
    }
  }
}

TEST(CodecPack, ReadsBackWithinTheFormatsError) {
  const std::map<std::string, double> error{{"fp8", 0.04}, {"nvfp4", 0.2}, {"int8_wo", 0.007}};
  for (const Codec* codec : codecs()) {
    const at::Tensor w = sample(at::kBFloat16);
    const PackedLinear packed = codec->pack(w, scales_of(w), Numerics::kCpu, nullptr);
    for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
      const at::Tensor back = codec->unpack(packed, dtype, nullptr);
      EXPECT_EQ(back.scalar_type(), dtype);
      const double worst = (back.to(at::kFloat) - w.to(at::kFloat)).abs().max().item<double>();
      EXPECT_LE(worst, error.at(codec->name()) * 0.7) << codec->name();
      EXPECT_GT(worst, 0.0);
    }
  }
}

TEST(CodecPack, DoesNotDependOnThreads) {
  ThreadPool pool(3);
  const at::Tensor w = sample(at::kBFloat16).repeat({8, 4});
  for (const Codec* codec : codecs()) {
    const PackedLinear alone = codec->pack(w, scales_of(w), Numerics::kCpu, nullptr);
    const PackedLinear together = codec->pack(w, scales_of(w), Numerics::kCpu, &pool);
    for (const auto& [suffix, tensor] : alone) {
      EXPECT_TRUE(at::equal(tensor, together.at(suffix))) << codec->name() << " " << suffix;
    }
    EXPECT_TRUE(at::equal(codec->unpack(alone, at::kFloat, nullptr),
                          codec->unpack(alone, at::kFloat, &pool)));
  }
}

TEST(CodecPack, SecondScaleFollowsTheUnifiedAmax) {
  const at::Tensor w = sample(at::kBFloat16);
  LinearScales scales = scales_of(w);
  scales.weight_amax *= 4.0f;
  const PackedLinear packed = nvfp4_codec().pack(w, scales, Numerics::kCpu, nullptr);
  EXPECT_EQ(packed.at("weight_scale_2").item<float>(), scales.weight_amax / 2688.0f);
  const at::Tensor back = nvfp4_codec().unpack(packed, at::kFloat, nullptr);
  EXPECT_LE((back - w.to(at::kFloat)).abs().max().item<float>(), 0.2f * 0.7f)
      << "block scales stay the blocks' own";
}

TEST(CodecShapes, Nvfp4NeedsWholeBlocks) {
  nvfp4_codec().check_shape("m", 3, 48);
  expect_error<InputError>([] { nvfp4_codec().check_shape("model.up_proj", 3, 40); },
                           "'model.up_proj.weight' is [3, 40]: NVFP4 needs");
  fp8_codec().check_shape("m", 3, 7);
  int8_weight_only_codec().check_shape("m", 3, 7);
}

TEST(InputScales, StandForTheirAmax) {
  EXPECT_FLOAT_EQ(fp8_codec().amax_of_input_scale(2.25f / 448.0f), 2.25f);
  EXPECT_FLOAT_EQ(nvfp4_codec().amax_of_input_scale(2.25f / 2688.0f), 2.25f);
}

TEST(KvCache, Formats) {
  EXPECT_EQ(kv_format_of({}, "a"), KvFormat::kNone);
  EXPECT_EQ(kv_format_of(sequence_of(kFp8), "a"), KvFormat::kFp8);
  EXPECT_EQ(kv_format_of(sequence_of("{num_bits: e4m3, use_constant_amax: true}"), "a"),
            KvFormat::kFp8Cast);
  EXPECT_TRUE(has_scales(KvFormat::kFp8));
  EXPECT_FALSE(has_scales(KvFormat::kFp8Cast));
  EXPECT_FALSE(has_scales(KvFormat::kNone));
  for (const char* wrong : {kNvfp4, kInt8Rows, "{num_bits: e4m3, type: dynamic}",
                            "{num_bits: e4m3, axis: 0}", "{num_bits: e4m3, constant_amax: 5}"}) {
    expect_error<UsageError>([wrong] { kv_format_of(sequence_of(wrong), "l.3.attn"); },
                             "KV cache of 'l.3.attn'");
  }
}

}  // namespace
}  // namespace halftone::test
