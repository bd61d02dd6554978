#include "io/safetensors.h"

#include <cstring>

#include "support.h"

namespace halftone {
namespace {

using test::TemporaryFolder;
using testing::ElementsAre;

TEST(ShapeText, FollowsPython) {
  EXPECT_EQ(shape_text({}), "[]");
  EXPECT_EQ(shape_text({7}), "[7]");
  EXPECT_EQ(shape_text({128, 64}), "[128, 64]");
}

TEST(PlanSafetensors, OrdersByAlignmentThenName) {
  const SafetensorsLayout layout = plan_safetensors({
      {"z.u8", DType::kU8, {3}},
      {"bool", DType::kBool, {2}},
      {"i8", DType::kI8, {1}},
      {"e5", DType::kF8E5M2, {1}},
      {"e4", DType::kF8E4M3, {2, 2}},
      {"a.u8", DType::kU8, {}},
      {"i16", DType::kI16, {1}},
      {"f16", DType::kF16, {1}},
      {"bf16", DType::kBF16, {1, 1}},
      {"i32", DType::kI32, {1}},
      {"f32", DType::kF32, {}},
      {"i64", DType::kI64, {1}},
      {"f64", DType::kF64, {0, 4}},
  });
  const char* order[] = {"f64", "i64", "f32",  "i32",  "bf16", "f16", "i16",
                         "e4",  "e5",  "a.u8", "z.u8", "i8",   "bool"};
  auto expected = static_cast<int64_t>(layout.header.size());
  for (const char* name : order) {
    const TensorInfo& info = layout.tensors.at(name);
    EXPECT_EQ(info.offset, expected) << name;
    EXPECT_EQ(info.offset % size_of(info.dtype), 0) << name;
    expected += info.bytes;
  }
  EXPECT_EQ(layout.file_bytes, expected);
  EXPECT_EQ(layout.tensors.size(), std::size(order));
}

TEST(PlanSafetensors, WritesTheCompactHeader) {
  const SafetensorsLayout layout =
      plan_safetensors({{"w", DType::kU8, {3, 2}}, {"scale \"\xc3\xa9\"", DType::kF32, {}}});
  const std::string text = R"({"__metadata__":{"format":"pt"},)"
                           R"("scale \")"
                           "\xc3\xa9"
                           R"(\"":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                           R"("w":{"dtype":"U8","shape":[3,2],"data_offsets":[4,10]}})";
  ASSERT_EQ(layout.header.size() % 8, 0u);
  const std::string padding(layout.header.size() - 8 - text.size(), ' ');
  EXPECT_LT(padding.size(), 8u);
  EXPECT_EQ(layout.header, test::length_word(text.size() + padding.size()) + text + padding);
}

TEST(PlanSafetensors, TakesNoTensors) {
  const SafetensorsLayout layout = plan_safetensors({});
  EXPECT_EQ(layout.file_bytes, static_cast<int64_t>(layout.header.size()));
  TemporaryFolder folder;
  test::write_file(folder / "x.safetensors", layout.header);
  EXPECT_TRUE(SafetensorsFile(folder / "x.safetensors").tensors().empty());
}

TEST(PlanSafetensorsDeathTest, RefusesTwoTensorsOfOneName) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(plan_safetensors({{"a", DType::kU8, {1}}, {"a", DType::kF32, {1}}}), "name");
  EXPECT_DEATH(plan_safetensors({{"__metadata__", DType::kU8, {1}}}), "name");
  EXPECT_DEATH(plan_safetensors({{"a", DType::kF32, {int64_t{1} << 61, 2}}}), "63 bits");
}

TEST(SafetensorsFile, ReadsWhatWasPlanned) {
  TemporaryFolder folder;
  const SafetensorsLayout layout = plan_safetensors(
      {{"a", DType::kBF16, {2, 3}}, {"empty", DType::kF32, {4, 0}}, {"scalar", DType::kF32, {}}});
  std::string bytes = layout.header;
  for (int64_t i = bytes.size(); i < layout.file_bytes; ++i) bytes += static_cast<char>(i);
  test::write_file(folder / "x.safetensors", bytes);

  const SafetensorsFile file(folder / "x.safetensors");
  EXPECT_EQ(file.path(), folder / "x.safetensors");
  EXPECT_THAT(file.metadata(),
              ElementsAre(std::pair<const std::string, std::string>("format", "pt")));
  ASSERT_EQ(file.tensors().size(), 3u);
  const TensorInfo& a = file.tensors().at("a");
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::kBF16);
  EXPECT_THAT(a.shape, ElementsAre(2, 3));
  EXPECT_EQ(a.bytes, 12);
  EXPECT_EQ(a.count(), 6);
  const std::vector<char> all = file.read_all(a);
  EXPECT_EQ(std::string(all.begin(), all.end()), bytes.substr(static_cast<size_t>(a.offset), 12));
  char part[5];
  file.read(a, 3, 5, part);
  EXPECT_EQ(std::memcmp(part, all.data() + 3, 5), 0);
  EXPECT_TRUE(file.read_all(file.tensors().at("empty")).empty());
  EXPECT_EQ(file.tensors().at("scalar").count(), 1);
  EXPECT_TRUE(file.tensors().at("scalar").shape.empty());
}

TEST(SafetensorsFile, SaysWhenTheFileShrinksLater) {
  TemporaryFolder folder;
  const std::string bytes =
      test::safetensors_bytes(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", 8);
  test::write_file(folder / "x.safetensors", bytes);
  const SafetensorsFile file(folder / "x.safetensors");
  fs::resize_file(folder / "x.safetensors", bytes.size() - 3);
  EXPECT_THAT(test::message_of<InputError>([&] { file.read_all(file.tensors().at("a")); }),
              testing::HasSubstr("x.safetensors"));
}

TEST(SafetensorsFileDeathTest, RefusesReadsOutsideTheTensor) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  TemporaryFolder folder;
  test::write_file(
      folder / "x.safetensors",
      test::safetensors_bytes(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", 8));
  const SafetensorsFile file(folder / "x.safetensors");
  char data[16];
  const TensorInfo& a = file.tensors().at("a");
  EXPECT_DEATH(file.read(a, 4, 5, data), "inside");
  EXPECT_DEATH(file.read(a, -1, 1, data), "inside");
}

}  // namespace
}  // namespace halftone
