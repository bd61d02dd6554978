// Names and shapes of stacked experts (formats-and-hf-export.md, 3.4).
#include "export/hf_names.h"

#include <gtest/gtest.h>

#include <map>

#include "formats/codecs.h"

namespace halftone {
namespace {

LinearSite expert(int index) {
  LinearSite site;
  site.name = "m.experts." + std::to_string(index) + ".gate_up_proj";
  site.out = 96;
  site.in = 64;
  site.expert = index;
  site.role = "gate_up_proj";
  site.stacked = "m.experts.gate_up_proj";
  return site;
}

std::map<std::string, HfPart> parts_of(const LinearSite& site, const LinearFormat& format) {
  std::map<std::string, HfPart> parts;
  for (const HfPart& part : hf_parts(site, format, 4, DType::kBF16)) {
    parts[part.whole.name] = part;
  }
  return parts;
}

TEST(HfNames, StackedNvfp4) {
  const LinearFormat format{make_nvfp4_codec({}), {InputKind::kNvfp4, {}}};
  const auto parts = parts_of(expert(2), format);
  ASSERT_EQ(parts.size(), 4u);
  const HfPart& weight = parts.at("m.experts.gate_up_proj");
  EXPECT_EQ(weight.whole.dtype, DType::kU8);
  EXPECT_EQ(weight.whole.shape, (std::vector<int64_t>{4, 32, 96}));
  EXPECT_TRUE(weight.input_major && weight.writes);
  EXPECT_EQ(weight.index, 2);
  EXPECT_EQ(weight.count, 4);
  EXPECT_EQ(parts.at("m.experts.gate_up_proj_weight_scale").whole.shape,
            (std::vector<int64_t>{4, 4, 96}));
  for (const char* scalar : {"weight_scale_2", "input_scale"}) {
    const std::string name = std::string("m.experts.gate_up_proj_") + scalar;
    EXPECT_TRUE(parts.at(name).whole.shape.empty());
    EXPECT_FALSE(parts.at(name).writes) << "the first expert does";
    EXPECT_TRUE(parts_of(expert(0), format).at(name).writes);
  }
}

TEST(HfNames, StackedFp8) {
  const auto parts = parts_of(expert(1), {make_fp8_codec(), {InputKind::kFp8, {}}});
  EXPECT_EQ(parts.at("m.experts.gate_up_proj").whole.shape, (std::vector<int64_t>{4, 64, 96}));
  EXPECT_TRUE(parts.at("m.experts.gate_up_proj_weight_scale").whole.shape.empty());
}

TEST(HfNames, OtherFormatsAreWrittenExpertByExpert) {
  LinearFormat int8{make_int8_codec(), {InputKind::kNone, {}}};
  EXPECT_EQ(parts_of(expert(3), int8).count("m.experts.3.gate_up_proj.weight"), 1u);
  // A scale that is stored beside the weight has no place in a stack.
  LinearFormat smoothed{make_nvfp4_codec({}), {InputKind::kNvfp4, {}}};
  smoothed.pre_quant_scale = PreQuantScale::kStored;
  EXPECT_FALSE(stacks_in_hf(expert(0), smoothed));
  EXPECT_EQ(parts_of(expert(3), smoothed).count("m.experts.3.gate_up_proj.pre_quant_scale"), 1u);
}

TEST(HfNames, CopiedPartsOfAStack) {
  const TensorNeed need{
      "m.experts.1.down_proj.weight", {64, 48}, 1, false, {"m.experts.down_proj", 1, 4, true}};
  const HfPart part = hf_part(need, DType::kBF16);
  EXPECT_EQ(part.whole.name, "m.experts.down_proj");
  EXPECT_EQ(part.whole.shape, (std::vector<int64_t>{4, 48, 64}));
  EXPECT_TRUE(part.input_major);
  EXPECT_EQ(part.index, 1);
  const HfPart plain = hf_part({"norm.weight", {8}}, DType::kF32);
  EXPECT_EQ(plain.whole.name, "norm.weight");
  EXPECT_EQ(plain.count, 1);
}

}  // namespace
}  // namespace halftone
