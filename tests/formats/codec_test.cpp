#include "formats/codec.h"

#include <gtest/gtest.h>

#include "formats/tensor_bridge.h"
#include "kernels/thread_pool.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"
#include "tests/formats/worked_examples.h"

namespace halftone::test {
namespace {

constexpr const char* kFp8 = "{num_bits: e4m3}";
constexpr const char* kFp8Rows = "{num_bits: e4m3, axis: 0}";
constexpr const char* kFp8Tokens = "{num_bits: e4m3, block_sizes: {-1: null, type: dynamic}}";
constexpr const char* kFp8Tiles = "{num_bits: e4m3, block_sizes: {-1: 128, -2: 128}}";
constexpr const char* kInt4 = "{num_bits: 4, block_sizes: {-1: 128}}";
constexpr const char* kInt8 = "{num_bits: 8}";
constexpr const char* kInt8Rows = "{num_bits: 8, axis: 0}";
constexpr const char* kNvfp4 =
    "{num_bits: e2m1, block_sizes: {-1: 16, type: dynamic, scale_bits: e4m3}}";
constexpr const char* kNvfp4Static =
    "{num_bits: e2m1, block_sizes: {-1: 16, type: static, scale_bits: e4m3}}";
constexpr const char* kNvfp4Block32 =
    "{num_bits: e2m1, block_sizes: {-1: 32, type: dynamic, scale_bits: e4m3}}";
constexpr const char* kMxfp4 =
    "{num_bits: e2m1, block_sizes: {-1: 32, type: dynamic, scale_bits: e8m0}}";
constexpr const char* kMxfp8 =
    "{num_bits: e4m3, block_sizes: {-1: 32, type: dynamic, scale_bits: e8m0}}";

std::shared_ptr<const Codec> codec_of(const QuantizerSequence& weight, const std::string& input) {
  const InputFormat format =
      input.empty() ? InputFormat{} : input_format_of(sequence_of(input), "model.x");
  return codec_for(weight, format, "model.x");
}

std::string name_of_pair(const std::string& weight, const std::string& input) {
  return codec_of(sequence_of(weight), input)->name();
}

TEST(CodecRegistry, FindsTheFormatOfAPairOfQuantizers) {
  EXPECT_EQ(name_of_pair(kFp8, kFp8), "fp8");
  EXPECT_EQ(name_of_pair(kFp8Rows, kFp8Tokens), "fp8 per channel");
  EXPECT_EQ(name_of_pair(kFp8Tiles, ""), "fp8 tiles of 128");
  EXPECT_EQ(name_of_pair(kInt8Rows, ""), "int8");
  EXPECT_EQ(name_of_pair(kInt8Rows, kInt8), "int8");
  EXPECT_EQ(name_of_pair(kInt4, ""), "int4 block 128");
  QuantizerSequence w4a8 = sequence_of(kInt4);
  w4a8.stages.push_back(quantizer_of(kFp8));
  EXPECT_EQ(codec_of(w4a8, kFp8)->name(), "int4 block 128 then fp8");
  EXPECT_EQ(name_of_pair(kNvfp4, kNvfp4), make_nvfp4_codec({})->name());
  EXPECT_EQ(name_of_pair(kNvfp4, ""), make_nvfp4_codec({})->name());
  EXPECT_EQ(name_of_pair(kNvfp4Block32, ""),
            make_nvfp4_codec({32, 2688.0f, false, 448.0f})->name());
  EXPECT_EQ(name_of_pair(kNvfp4Block32, kFp8),
            make_nvfp4_codec({32, 448.0f, false, 448.0f})->name());
  EXPECT_EQ(name_of_pair(kNvfp4Static, kNvfp4),
            make_nvfp4_codec({16, 2688.0f, true, 448.0f})->name());
  EXPECT_EQ(name_of_pair(kMxfp4, kMxfp4), "mxfp4");
  EXPECT_EQ(name_of_pair(kMxfp4, kFp8), "mxfp4");
  EXPECT_EQ(name_of_pair(kMxfp4, ""), "mxfp4");
  EXPECT_EQ(name_of_pair(kMxfp8, kMxfp8), "mxfp8");
  EXPECT_EQ(codec_for({}, {}, "x"), nullptr) << "off";
  EXPECT_EQ(codec_of(sequence_of("{num_bits: e4m3, enable: false}"), kFp8), nullptr);
}

TEST(CodecRegistry, NamesTellCodecsApart) {
  std::set<std::string> names;
  for (const auto& codec : every_codec()) {
    EXPECT_TRUE(names.insert(codec->name()).second) << codec->name();
  }
  EXPECT_NE(make_nvfp4_codec({16, 2688.0f, true, 448.0f})->name(),
            make_nvfp4_codec({16, 1536.0f, true, 256.0f})->name());
}

TEST(CodecRegistry, RefusesWhatItCannotStore) {
  const std::pair<const char*, const char*> pairs[] = {
      {kFp8, ""},
      {kFp8, kNvfp4},
      {kFp8, kFp8Tokens},
      {kFp8, "{num_bits: e4m3, type: dynamic}"},
      {kFp8Rows, kFp8},
      {kFp8Tiles, kFp8},
      {kNvfp4, kFp8},
      {kNvfp4, kMxfp4},
      {kNvfp4Block32, kNvfp4},
      {kNvfp4Static, kFp8},
      {kInt8Rows, kFp8},
      {kInt8, ""},
      {"{num_bits: 8, axis: 1}", ""},
      {"{num_bits: 4, axis: 0}", ""},
      {kInt4, kFp8},
      {kInt4, kInt8},
      {kMxfp4, kNvfp4},
      {kMxfp8, ""},
      {kMxfp8, kFp8},
      {"{num_bits: e4m3, type: dynamic}", kFp8},
      {"{num_bits: e4m3, block_sizes: {-1: 128}}", ""},
      {"{num_bits: e2m1, block_sizes: {-1: 16, type: dynamic, scale_bits: e8m0}}", kNvfp4},
      {"{num_bits: e2m1, block_sizes: {-1: 64, type: dynamic, scale_bits: e4m3}}", ""},
      // What would be ignored is refused: constants.
      {"{num_bits: e4m3, constant_amax: 2}", kFp8},
      {"{num_bits: 8, axis: 0, constant_amax: 2}", ""},
  };
  for (const auto& [weight, input] : pairs) {
    SCOPED_TRACE(std::string(weight) + " " + input);
    expect_error<UsageError>([w = weight, i = input] { codec_of(sequence_of(w), i); }, "'model.x'");
  }
  QuantizerSequence twice = sequence_of(kFp8);
  twice.stages.push_back(quantizer_of(kFp8));
  expect_error<UsageError>([&] { codec_of(twice, kFp8); }, "a combination that no format stores");
}

TEST(CodecTensors, AsTheTableSays) {  // formats-and-hf-export.md, 3.2
  const auto text = [](const Codec& codec, int64_t out, int64_t in) {
    std::string all;
    for (const TensorSpec& spec : codec.tensors(out, in)) {
      all += spec.name + " " + name_of(spec.dtype) + " " + shape_text(spec.shape) + "; ";
    }
    return all;
  };
  EXPECT_EQ(text(*make_fp8_codec(), 64, 32), "weight F8_E4M3 [64, 32]; weight_scale F32 []; ");
  EXPECT_EQ(text(*make_fp8_rows_codec(), 64, 32),
            "weight F8_E4M3 [64, 32]; weight_scale F32 [64]; ");
  EXPECT_EQ(text(*make_fp8_tiles_codec(128), 300, 129),
            "weight F8_E4M3 [300, 129]; weight_scale F32 [3, 1, 2, 1]; ");
  EXPECT_EQ(text(*make_fp8_tiles_codec(128), 128, 128),
            "weight F8_E4M3 [128, 128]; weight_scale F32 []; ");
  EXPECT_EQ(text(*make_int8_codec(), 64, 32), "weight I8 [64, 32]; weight_scale F32 [64]; ");
  EXPECT_EQ(text(*make_int4_codec(128, false), 64, 256),
            "weight U8 [32, 256]; weight_scale F32 [64, 2]; ");
  EXPECT_EQ(text(*make_int4_codec(128, true), 64, 256),
            "weight U8 [32, 256]; weight_scale F32 [64, 2]; weight_scale_2 F32 []; ");
  EXPECT_EQ(text(*make_nvfp4_codec({}), 64, 32),
            "weight U8 [64, 16]; weight_scale F8_E4M3 [64, 2]; weight_scale_2 F32 []; ");
  EXPECT_EQ(text(*make_nvfp4_codec({32, 448.0f, false, 448.0f}), 64, 32),
            "weight U8 [64, 16]; weight_scale F8_E4M3 [64, 1]; weight_scale_2 F32 []; ");
  EXPECT_EQ(text(*make_mxfp4_codec(), 64, 96), "weight U8 [64, 48]; weight_scale U8 [64, 3]; ");
  EXPECT_EQ(text(*make_mxfp8_codec(), 64, 96),
            "weight F8_E4M3 [64, 96]; weight_scale U8 [64, 3]; ");
}

TEST(CodecTensors, WhichAmaxesAreShared) {  // formats-and-hf-export.md, 3.3.2 and 3.3.3
  std::map<std::string, bool> shared;
  for (const auto& codec : every_codec()) {
    shared[codec->name()] = codec->uses_tensor_amax(64, 64) && codec->unifies_groups();
  }
  for (const auto& [name, value] : shared) {
    const bool expected = name.starts_with("nvfp4") || name.ends_with("then fp8") ||
                          name == "fp8 tiles of 128";  // one tile
    EXPECT_EQ(value, expected) << name;
  }
  EXPECT_FALSE(make_fp8_tiles_codec(128)->uses_tensor_amax(129, 64));
  EXPECT_TRUE(make_fp8_codec()->uses_tensor_amax(64, 64));
}

at::Tensor sample(int64_t out, int64_t in, at::ScalarType dtype) {
  return (at::sin(at::arange(out * in, at::kFloat)) * 0.7).view({out, in}).to(dtype);
}

// Shapes that leave rows and columns over wherever the codec allows it.
std::vector<std::pair<int64_t, int64_t>> shapes_of(const Codec& codec) {
  const int64_t block = codec.block();
  if (block == 0) return {{1, 1}, {3, 7}, {37, 131}, {130, 257}};
  const int64_t even = codec.name().starts_with("int4") ? 2 : 1;
  return {{even, block}, {3 * even, 3 * block}, {38, 5 * block}};
}

TEST(CodecPack, GivesExactlyThePlannedTensors) {
  for (const auto& codec : every_codec()) {
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf, at::kFloat}) {
      for (const auto& [out, in] : shapes_of(*codec)) {
        SCOPED_TRACE(codec->name() + " " + shape_text({out, in}));
        codec->check_shape("m", out, in);
        const PackedLinear packed = pack(*codec, sample(out, in, dtype));
        const std::vector<TensorSpec> specs = codec->tensors(out, in);
        EXPECT_EQ(packed.size(), specs.size());
        for (const TensorSpec& spec : specs) {
          EXPECT_EQ(packed.at(spec.name).sizes().vec(), spec.shape) << spec.name;
          EXPECT_EQ(packed.at(spec.name).scalar_type(), scalar_type_of(spec.dtype)) << spec.name;
        }
      }
    }
  }
}

// The largest error relative to the largest value that shares the scale.
double error_of(const std::string& name) {
  if (name.starts_with("fp8") || name == "mxfp8") return 1.0 / 16;
  if (name == "int8") return 0.5 / 127 + 1e-6;
  if (name.starts_with("int4")) return 0.5 / 7 + 1e-6;
  return 0.27;  // an MXFP4 scale may be twice what the block needs
}

TEST(CodecPack, ReadsBackWithinTheFormatsError) {
  for (const auto& codec : every_codec()) {
    for (const auto& [out, in] : shapes_of(*codec)) {
      SCOPED_TRACE(codec->name() + " " + shape_text({out, in}));
      const at::Tensor w = sample(out, in, at::kFloat);
      const PackedLinear packed = pack(*codec, w);
      const at::Tensor back = codec->unpack(packed, at::kFloat, nullptr);
      ASSERT_EQ(back.sizes(), w.sizes());
      EXPECT_LE(largest(back - w), error_of(codec->name()) * largest(w));
      if (w.numel() > 100) {
        EXPECT_GT(largest(back - w), 0.0f);
      }
      for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
        EXPECT_TRUE(at::equal(codec->unpack(packed, dtype, nullptr), back.to(dtype)));
      }
    }
  }
}

// What was read back is on the grid: packed with the same amaxes it gives the same bytes.
TEST(CodecPack, ReadingBackAndPackingAgainChangesNothing) {
  for (const auto& codec : every_codec()) {
    const auto [out, in] = shapes_of(*codec).back();
    SCOPED_TRACE(codec->name());
    const at::Tensor w = sample(out, in, at::kFloat);
    const PackedLinear once = pack(*codec, w);
    const at::Tensor back = codec->unpack(once, at::kFloat, nullptr);
    const at::Tensor again = codec->unpack(
        codec->pack(back, {largest(w), {}}, Numerics::kCpu, nullptr), at::kFloat, nullptr);
    EXPECT_LE(largest(again - back), 1e-6f);
  }
}

TEST(CodecPack, DoesNotDependOnThreads) {
  ThreadPool pool(3);
  const at::Tensor w = sample(768, 256, at::kBFloat16);
  for (const auto& codec : every_codec()) {
    const PackedLinear alone = pack(*codec, w);
    const PackedLinear together = codec->pack(w, {largest(w), {}}, Numerics::kCpu, &pool);
    for (const auto& [suffix, tensor] : alone) {
      EXPECT_TRUE(at::equal(tensor, together.at(suffix))) << codec->name() << " " << suffix;
    }
    EXPECT_TRUE(at::equal(codec->unpack(alone, at::kFloat, nullptr),
                          codec->unpack(alone, at::kFloat, &pool)));
    EXPECT_TRUE(
        at::equal(codec->candidate(w, {}, 1.0f, nullptr), codec->candidate(w, {}, 1.0f, &pool)));
  }
}

TEST(CodecPack, SecondScaleFollowsTheUnifiedAmax) {
  const at::Tensor w = sample(96, 64, at::kBFloat16);
  const auto codec = make_nvfp4_codec({});
  const PackedLinear packed = codec->pack(w, {4.0f * largest(w), {}}, Numerics::kCpu, nullptr);
  EXPECT_EQ(packed.at("weight_scale_2").item<float>(), 4.0f * largest(w) / 2688.0f);
  const at::Tensor back = codec->unpack(packed, at::kFloat, nullptr);
  EXPECT_LE(largest(back - w.to(at::kFloat)), 0.2f * 0.7f) << "block scales stay the blocks' own";
}

TEST(CodecPack, ChosenBlockAmaxesBecomeScales) {
  const at::Tensor w = sample(4, 32, at::kFloat);
  const at::Tensor amax = at::full({4, 2}, 0.875f);
  const WeightScales scales{largest(w), amax};
  EXPECT_TRUE(at::equal(
      make_int4_codec(16, false)->pack(w, scales, Numerics::kCpu, nullptr).at("weight_scale"),
      amax / 7.0f));
  const at::Tensor rows = at::full({4, 1}, 0.635f);
  EXPECT_TRUE(at::equal(
      make_int8_codec()->pack(w, {largest(w), rows}, Numerics::kCpu, nullptr).at("weight_scale"),
      rows.view({4}) / 127.0f));
  EXPECT_TRUE(at::equal(make_fp8_rows_codec()
                            ->pack(w, {largest(w), rows}, Numerics::kCpu, nullptr)
                            .at("weight_scale"),
                        rows.view({4}) / 448.0f));
  // 0.875 is 448 * 0.5 of the largest, 1.75.
  const PackedLinear nvfp4 = make_nvfp4_codec({16, 2688.0f, true, 448.0f})
                                 ->pack(w, {1.75f, amax}, Numerics::kCpu, nullptr);
  EXPECT_EQ(hex(nvfp4.at("weight_scale")), "7676767676767676");
}

// With ratio 1 and no scaling a candidate is what the packed weight stands for.
TEST(CodecCandidate, IsThePackedWeightReadBack) {
  for (const auto& codec : every_codec()) {
    SCOPED_TRACE(codec->name());
    const at::Tensor w = sample(38, 96, at::kFloat);
    const at::Tensor back = codec->unpack(pack(*codec, w), at::kFloat, nullptr);
    EXPECT_LE(largest(codec->candidate(w, {}, 1.0f, nullptr) - back), 2e-6f);
    const at::Tensor scale = at::linspace(0.5, 2.0, 96);
    const at::Tensor scaled = w * scale;
    EXPECT_LE(largest(codec->candidate(w, scale, 1.0f, nullptr) -
                      codec->unpack(pack(*codec, scaled), at::kFloat, nullptr)),
              2e-6f);
    EXPECT_EQ(codec->candidate(w.to(at::kBFloat16), scale, 1.0f, nullptr).scalar_type(),
              at::kBFloat16);
  }
}

TEST(CodecCandidate, ARatioClips) {
  const at::Tensor w = sample(38, 96, at::kFloat);
  for (const auto& codec : {make_int4_codec(16, false), make_int8_codec(), make_nvfp4_codec({})}) {
    SCOPED_TRACE(codec->name());
    const float most = largest(codec->candidate(w, {}, 0.5f, nullptr));
    EXPECT_LE(most, 0.7f * 0.5f * 8.0f / 7.0f);
    EXPECT_GE(most, 0.7f * 0.5f * 0.9f);
  }
}

TEST(CodecShapes, BlocksMustBeWhole) {
  const auto refused = [](const Codec& codec, int64_t out, int64_t in, const std::string& text) {
    expect_error<InputError>([&] { codec.check_shape("model.up_proj", out, in); },
                             "'model.up_proj.weight' is " + shape_text({out, in}) + ": " + text);
  };
  make_nvfp4_codec({})->check_shape("m", 3, 48);
  refused(*make_nvfp4_codec({}), 3, 40, "NVFP4 needs");
  refused(*make_nvfp4_codec({32, 2688.0f, false, 448.0f}), 3, 48, "NVFP4 needs");
  refused(*make_mxfp4_codec(), 3, 48, "MX formats need");
  refused(*make_mxfp8_codec(), 3, 48, "MX formats need");
  refused(*make_int4_codec(128, false), 4, 192, "INT4 needs");
  refused(*make_int4_codec(128, true), 5, 256, "INT4 needs an even first size");
  for (const auto& codec : every_codec()) {
    if (codec->block() == 0) codec->check_shape("m", 3, 7);
  }
}

}  // namespace
}  // namespace halftone::test
