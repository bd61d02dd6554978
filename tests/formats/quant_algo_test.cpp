// The tables of formats-and-hf-export.md, 4.1 to 4.3, for every format of a linear.
#include "formats/quant_algo.h"

#include <gtest/gtest.h>

#include "formats/codecs.h"

namespace halftone::test {
namespace {

struct Row {
  LinearFormat format;
  const char* name;
  const char* extras;
  const char* uniform;  // null: no config group
  const char* mixed;
};

LinearFormat format_of(std::shared_ptr<const Codec> codec, InputKind input,
                       Smoothing smoothing = Smoothing::kNone) {
  const auto place = smoothing == Smoothing::kNone ? PreQuantScale::kNone : PreQuantScale::kStored;
  return {
      std::move(codec), {input, {}}, smoothing, place, smoothing == Smoothing::kSvdQuant ? 32 : 0};
}

std::shared_ptr<const Codec> nvfp4(int block = 16, float divisor = 2688.0f, bool frozen = false) {
  return make_nvfp4_codec({block, divisor, frozen, divisor == 1536.0f ? 256.0f : 448.0f});
}

constexpr const char* kNothing = "{}";
constexpr const char* kSize16 = R"({"group_size":16})";
constexpr const char* kSize32 = R"({"group_size":32})";
constexpr const char* kSmoothed128 =
    R"({"group_size":128,"has_zero_point":false,"pre_quant_scale":true})";
constexpr const char* kSmoothed16 =
    R"({"group_size":16,"has_zero_point":false,"pre_quant_scale":true})";
constexpr const char* kFp8Group =
    R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"float"},)"
    R"("weights":{"dynamic":false,"num_bits":8,"type":"float"}})";
constexpr const char* kNvfp4Group =
    R"({"input_activations":{"dynamic":false,"num_bits":4,"type":"float","group_size":16},)"
    R"("weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":16}})";
constexpr const char* kSvdGroup =
    R"({"input_activations":{"dynamic":false,"num_bits":4,"type":"float","group_size":16},)"
    R"("weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":16},)"
    R"("has_zero_point":false,"pre_quant_scale":true})";
constexpr const char* kEightThenFour32 =
    R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"float"},)"
    R"("weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":32}})";

std::vector<Row> table() {
  using K = InputKind;
  return {
      {format_of(make_fp8_codec(), K::kFp8), "FP8", kNothing, kFp8Group, kFp8Group},
      {format_of(make_fp8_rows_codec(), K::kFp8Token), "FP8_PER_CHANNEL_PER_TOKEN", kNothing,
       nullptr,
       R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"float"},)"
       R"("weights":{"dynamic":false,"num_bits":8,"type":"float","strategy":"channel"}})"},
      {format_of(make_fp8_tiles_codec(128), K::kNone), "fp8_pb_wo", kNothing, nullptr,
       R"({"quant_algo":"fp8_pb_wo"})"},
      {format_of(make_int8_codec(), K::kNone), "W8A16", kNothing, nullptr,
       R"({"weights":{"dynamic":false,"num_bits":8,"type":"int"}})"},
      {format_of(make_int8_codec(), K::kInt8, Smoothing::kSmoothQuant), "W8A8_SQ_PER_CHANNEL",
       kNothing, nullptr,
       R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"int"},)"
       R"("weights":{"dynamic":false,"num_bits":8,"type":"int","strategy":"channel"}})"},
      {format_of(make_int8_codec(), K::kInt8), "W8A8_SQ_PER_CHANNEL", kNothing, nullptr,
       R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"int"},)"
       R"("weights":{"dynamic":false,"num_bits":8,"type":"int","strategy":"channel"}})"},
      {format_of(make_int4_codec(128, false), K::kNone, Smoothing::kAwq), "W4A16_AWQ", kSmoothed128,
       nullptr, R"({"weights":{"dynamic":false,"num_bits":4,"type":"int","group_size":128}})"},
      {format_of(make_int4_codec(128, false), K::kNone), "W4A16_AWQ", kSmoothed128, nullptr,
       R"({"weights":{"dynamic":false,"num_bits":4,"type":"int","group_size":128}})"},
      {format_of(make_int4_codec(128, true), K::kFp8, Smoothing::kAwq), "W4A8_AWQ", kSmoothed128,
       nullptr,
       R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"float","group_size":128},)"
       R"("weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":128}})"},
      {format_of(nvfp4(), K::kNvfp4), "NVFP4", kSize16, kNvfp4Group, kNvfp4Group},
      {format_of(nvfp4(16, 2688.0f, true), K::kNvfp4), "NVFP4", kSize16, kNvfp4Group, kNvfp4Group},
      {format_of(nvfp4(16, 1536.0f, true), K::kNvfp4), "NVFP4", kSize16, kNvfp4Group, kNvfp4Group},
      {format_of(nvfp4(), K::kNone), "W4A16_NVFP4", kSize16,
       R"({"weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":16}})",
       R"({"weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":16}})"},
      {format_of(nvfp4(32), K::kNone), "W4A16_NVFP4", kSize32,
       R"({"weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":32}})",
       R"({"weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":32}})"},
      {format_of(nvfp4(), K::kNvfp4, Smoothing::kAwq), "NVFP4_AWQ", kSmoothed16, nullptr,
       R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"float","group_size":16},)"
       R"("weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":16}})"},
      {format_of(nvfp4(), K::kNvfp4, Smoothing::kSvdQuant), "NVFP4_SVD", kSmoothed16, kSvdGroup,
       kSvdGroup},
      {format_of(nvfp4(32, 448.0f), K::kFp8), "W4A8_NVFP4_FP8", kSize32, nullptr, kEightThenFour32},
      {format_of(make_mxfp4_codec(), K::kFp8), "W4A8_MXFP4_FP8", kSize32, nullptr,
       kEightThenFour32},
      {format_of(make_mxfp4_codec(), K::kFp8Dynamic), "W4A8_MXFP4_FP8", kSize32, nullptr,
       kEightThenFour32},
      {format_of(make_mxfp4_codec(), K::kNone), "mxfp4", kNothing,
       R"({"weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":32}})",
       R"({"weights":{"dynamic":false,"num_bits":4,"type":"float","group_size":32}})"},
      {format_of(make_mxfp4_codec(), K::kMxfp4), "mxfp4", kNothing, nullptr,
       R"({"quant_algo":"mxfp4"})"},
      {format_of(make_mxfp8_codec(), K::kMxfp8), "MXFP8", kSize32, nullptr,
       R"({"input_activations":{"dynamic":false,"num_bits":8,"type":"float","group_size":32},)"
       R"("weights":{"dynamic":false,"num_bits":8,"type":"float","group_size":32}})"},
  };
}

TEST(QuantAlgo, AsTheTablesSay) {
  for (const Row& row : table()) {
    SCOPED_TRACE(row.name);
    const QuantAlgo algo = quant_algo_of(row.format);
    EXPECT_EQ(algo.name, row.name);
    EXPECT_EQ(algo.extras.dump(), row.extras);
    EXPECT_EQ(algo.uniform_group.dump(), row.uniform == nullptr ? "null" : row.uniform);
    EXPECT_EQ(algo.mixed_group.dump(), row.mixed);
  }
}

// The stored tensors, as a checkpoint shows them.
std::function<bool(const std::string&)> tensors_of(const LinearFormat& format) {
  std::vector<TensorSpec> specs = stored_tensors(format, 256, 256, DType::kBF16);
  return [specs](const std::string& suffix) {
    return std::any_of(specs.begin(), specs.end(),
                       [&](const TensorSpec& spec) { return spec.name == suffix; });
  };
}

TEST(QuantAlgo, IsReadBack) {
  for (const Row& row : table()) {
    SCOPED_TRACE(row.name);
    const QuantAlgo algo = quant_algo_of(row.format);
    const auto back = format_of_algo(algo.name, algo.extras.value("group_size", int64_t{0}),
                                     !row.format.input.quantized(), tensors_of(row.format));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->input.kind, row.format.input.kind);
    EXPECT_EQ(back->pre_quant_scale, row.format.pre_quant_scale);
    // Whoever reads takes scales as they are stored, so frozen block amaxes are no difference.
    const LinearFormat& written = row.format;
    const auto names = [](const std::vector<TensorSpec>& specs) {
      std::string text;
      for (const TensorSpec& spec : specs) {
        text += spec.name + " " + name_of(spec.dtype) + " " + shape_text(spec.shape) + "; ";
      }
      return text;
    };
    EXPECT_EQ(names(back->codec->tensors(256, 256)), names(written.codec->tensors(256, 256)));
    if (!frozen_nvfp4(*written.codec)) {
      EXPECT_EQ(back->codec->name(), written.codec->name());
    }
    // The rank of the branch is in the tensors' shapes alone.
    LinearFormat with_rank = *back;
    with_rank.low_rank = written.low_rank;
    EXPECT_EQ(names(stored_tensors(with_rank, 256, 256, DType::kBF16)),
              names(stored_tensors(written, 256, 256, DType::kBF16)));
  }
}

TEST(QuantAlgo, UnknownNamesAreNotRead) {
  const auto none = [](const std::string&) { return false; };
  for (const char* name : {"fp8", "", "W4A16", "AWQ", "nvfp4", "MXFP4", "MIXED_PRECISION"}) {
    EXPECT_FALSE(format_of_algo(name, 16, false, none).has_value()) << name;
  }
}

TEST(StoredTensors, AsTheTableSays) {  // formats-and-hf-export.md, 3.2
  const auto text = [](const LinearFormat& format) {
    std::string all;
    for (const TensorSpec& spec : stored_tensors(format, 64, 128, DType::kBF16)) {
      all += spec.name + " " + name_of(spec.dtype) + " " + shape_text(spec.shape) + "; ";
    }
    return all;
  };
  EXPECT_EQ(text(format_of(make_fp8_codec(), InputKind::kFp8)),
            "weight F8_E4M3 [64, 128]; weight_scale F32 []; input_scale F32 []; ");
  EXPECT_EQ(text(format_of(make_fp8_rows_codec(), InputKind::kFp8Token)),
            "weight F8_E4M3 [64, 128]; weight_scale F32 [64]; ");
  EXPECT_EQ(text(format_of(make_int8_codec(), InputKind::kInt8, Smoothing::kSmoothQuant)),
            "weight I8 [64, 128]; weight_scale F32 [64]; input_scale F32 []; "
            "pre_quant_scale BF16 [128]; ");
  LinearFormat folded = format_of(make_int4_codec(128, true), InputKind::kFp8, Smoothing::kAwq);
  folded.pre_quant_scale = PreQuantScale::kInNorm;
  EXPECT_EQ(text(folded),
            "weight U8 [32, 128]; weight_scale F32 [64, 1]; weight_scale_2 F32 []; "
            "input_scale F32 []; ");
  EXPECT_EQ(text(format_of(nvfp4(), InputKind::kNvfp4, Smoothing::kSvdQuant)),
            "weight U8 [64, 64]; weight_scale F8_E4M3 [64, 8]; weight_scale_2 F32 []; "
            "input_scale F32 []; pre_quant_scale BF16 [128]; svdquant_lora_a BF16 [32, 128]; "
            "svdquant_lora_b BF16 [64, 32]; ");
  EXPECT_EQ(text(format_of(make_mxfp4_codec(), InputKind::kFp8Dynamic)),
            "weight U8 [64, 64]; weight_scale U8 [64, 4]; ");
}

TEST(SameFormat, WhatEnginesMayMerge) {
  const LinearFormat a = format_of(nvfp4(), InputKind::kNvfp4);
  EXPECT_TRUE(same_format(a, format_of(nvfp4(), InputKind::kNvfp4)));
  EXPECT_TRUE(same_format({}, {}));
  EXPECT_FALSE(same_format(a, {}));
  EXPECT_FALSE(same_format(a, format_of(nvfp4(), InputKind::kNone)));
  EXPECT_FALSE(same_format(a, format_of(nvfp4(), InputKind::kNvfp4, Smoothing::kAwq)));
  EXPECT_FALSE(same_format(a, format_of(nvfp4(16, 2688.0f, true), InputKind::kNvfp4)));
  LinearFormat thin = format_of(nvfp4(), InputKind::kNvfp4, Smoothing::kSvdQuant);
  const LinearFormat wide = thin;
  thin.low_rank = 8;
  EXPECT_FALSE(same_format(thin, wide));
}

}  // namespace
}  // namespace halftone::test
