#include "export/reshard_builder.h"

#include <gtest/gtest.h>

#include <map>

#include "export/element_change.h"
#include "kernels/numeric_types.h"

namespace halftone {
namespace {

TEST(ElementChange, RoundsOnce) {
  const std::vector<uint16_t> x{0x3f80, 0x8000, 0x3b01, 0xbf7f};  // BF16
  std::vector<float> wide(x.size());
  const auto widen = element_change(DType::kBF16, DType::kF32, /*plus_one=*/false);
  EXPECT_EQ(widen->from_bytes, 2);
  EXPECT_EQ(widen->to_bytes, 4);
  widen->apply(x.data(), wide.data(), 4);
  std::vector<uint16_t> back(x.size());
  element_change(DType::kF32, DType::kBF16, false)->apply(wide.data(), back.data(), 4);
  EXPECT_EQ(back, x);
  element_change(DType::kBF16, DType::kBF16, true)->apply(x.data(), back.data(), 4);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(back[i], bf16_of_float(float_of_bf16(x[i]) + 1.0f));
  }
  EXPECT_EQ(element_change(DType::kBF16, DType::kBF16, false), nullptr);
  EXPECT_EQ(element_change(DType::kU8, DType::kI8, false), nullptr) << "bytes stay bytes";
}

TEST(ReshardBuilder, TensorsThatLoseBitsAreTheRest) {
  const std::map<std::string, TensorSpec> unified{
      {"kept", {"kept", DType::kF32, {4}}},        {"narrowed", {"narrowed", DType::kF32, {4}}},
      {"widened", {"widened", DType::kBF16, {4}}}, {"raised", {"raised", DType::kBF16, {4}}},
      {"unknown", {"unknown", DType::kU8, {4}}},
  };
  ReshardBuilder builder(unified, 1);
  const std::map<std::string, DType> targets{{"kept", DType::kF32},
                                             {"narrowed", DType::kF16},
                                             {"widened", DType::kF32},
                                             {"raised", DType::kBF16}};
  for (const auto& [name, dtype] : targets) {
    builder.declare(0, {name, dtype, {4}});
    builder.copy(name, 0, name, 0, /*writes=*/true, /*returns=*/true, name == "raised");
  }
  const ReshardPlan plan = builder.finish({"file"});
  std::vector<std::string> rest;
  for (const TensorSpec& spec : plan.rest) rest.push_back(spec.name);
  EXPECT_EQ(rest, (std::vector<std::string>{"narrowed", "raised", "unknown"}));
  EXPECT_EQ(plan.files.front().layout.header.find("__metadata__"), std::string::npos);
}

}  // namespace
}  // namespace halftone
