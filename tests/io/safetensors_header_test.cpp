#include <memory>

#include "io/safetensors.h"
#include "support.h"

namespace halftone {
namespace {

using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

class SafetensorsHeaderTest : public testing::Test {
 protected:
  std::string refused_bytes(const std::string& bytes) {
    test::write_file(path_, bytes);
    const std::string message = test::message_of<InputError>([&] { SafetensorsFile file(path_); });
    EXPECT_THAT(message, HasSubstr(path_.string()));
    return message;
  }
  std::string refused(const std::string& header, int64_t data_bytes) {
    return refused_bytes(test::safetensors_bytes(header, data_bytes));
  }
  std::unique_ptr<SafetensorsFile> opened(const std::string& header, int64_t data_bytes) {
    test::write_file(path_, test::safetensors_bytes(header, data_bytes));
    return std::make_unique<SafetensorsFile>(path_);
  }

  TemporaryFolder folder_;
  fs::path path_ = folder_ / "model.safetensors";
};

TEST_F(SafetensorsHeaderTest, MissingFileAndFolder) {
  EXPECT_THAT(test::message_of<InputError>([&] { SafetensorsFile file(path_); }),
              HasSubstr(path_.string()));
  EXPECT_THAT(test::message_of<InputError>([&] { SafetensorsFile file(folder_.path()); }),
              HasSubstr("regular file"));
}

TEST_F(SafetensorsHeaderTest, ShorterThanItsLengthWord) {
  EXPECT_THAT(refused_bytes(""), HasSubstr("has 0 bytes"));
  EXPECT_THAT(refused_bytes("\x02\0\0\0\0\0\0"), HasSubstr("has 1 bytes"));
  EXPECT_THAT(refused_bytes(std::string(7, '\1')), HasSubstr("has 7 bytes"));
}

TEST_F(SafetensorsHeaderTest, LyingLength) {
  EXPECT_THAT(refused_bytes(test::length_word(3) + "{}"),
              AllOf(HasSubstr("header of 3 bytes"), HasSubstr("only 2 follow")));
  EXPECT_THAT(refused_bytes(test::length_word(uint64_t{1} << 63) + "{}"),
              HasSubstr("9223372036854775808"));
  EXPECT_THAT(refused_bytes(test::length_word(UINT64_MAX) + "{}"), HasSubstr("at most 100000000"));
  EXPECT_THAT(refused_bytes(test::length_word(0)), HasSubstr("found nothing"));
}

TEST_F(SafetensorsHeaderTest, LengthAboveTheCapOfAFileThatHoldsIt) {
  test::write_file(path_, test::length_word(100'000'001) + "{}");
  fs::resize_file(path_, 100'000'100);  // sparse
  EXPECT_THAT(test::message_of<InputError>([&] { SafetensorsFile file(path_); }),
              HasSubstr("at most 100000000"));
}

TEST_F(SafetensorsHeaderTest, NotAnObject) {
  EXPECT_THAT(refused("[]", 0), HasSubstr("begins with '{'"));
  EXPECT_THAT(refused(" {}", 0), HasSubstr("begins with '{'"));
  EXPECT_THAT(refused("\xef\xbb\xbf{}", 0), HasSubstr("begins with '{'"));
  EXPECT_THAT(refused("{\"a\":", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(refused("{} {}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(refused("{\"\xff\":1}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(refused(std::string("{}\0", 3), 0), HasSubstr("not valid JSON"));
}

TEST_F(SafetensorsHeaderTest, DepthBomb) {
  EXPECT_THAT(refused("{\"a\":" + std::string(1'000'000, '['), 0), HasSubstr("nested deeper"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_THAT(refused(objects, 0), HasSubstr("nested deeper"));
}

TEST_F(SafetensorsHeaderTest, DuplicateNames) {
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                      2),
              HasSubstr("'a' appears twice"));
  EXPECT_THAT(refused(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1),
              HasSubstr("'dtype' appears twice"));
}

struct BadTensor {
  const char* name;
  const char* value;  // of the tensor "t", in a file of 16 data bytes
  const char* message;
};

class BadTensorTest : public SafetensorsHeaderTest,
                      public testing::WithParamInterface<BadTensor> {};

TEST_P(BadTensorTest, IsRefusedByName) {
  EXPECT_THAT(refused(concat("{\"t\":", GetParam().value, "}"), 16),
              AllOf(HasSubstr("tensor 't'"), HasSubstr(GetParam().message)));
}

const BadTensor kBadTensors[] = {
    {"NotAnObject", "[]", "expected an object"},
    {"Null", "null", "expected an object"},
    {"NoDtype", R"({"shape":[16],"data_offsets":[0,16]})", "'dtype' is missing"},
    {"NoShape", R"({"dtype":"U8","data_offsets":[0,16]})", "'shape' is missing"},
    {"NoOffsets", R"({"dtype":"U8","shape":[16]})", "'data_offsets' is missing"},
    {"DtypeNumber", R"({"dtype":8,"shape":[16],"data_offsets":[0,16]})", "must be a string"},
    {"DtypeUnknown", R"({"dtype":"U16","shape":[8],"data_offsets":[0,16]})",
     "'U16' is not supported; supported are F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, "
     "I8, U8, BOOL"},
    {"DtypeFp4", R"({"dtype":"F4","shape":[32],"data_offsets":[0,16]})", "'F4' is not supported"},
    {"DtypeCase", R"({"dtype":"f32","shape":[4],"data_offsets":[0,16]})", "'f32' is not"},
    {"ShapeNumber", R"({"dtype":"U8","shape":16,"data_offsets":[0,16]})", "must be an array"},
    {"ShapeNegative", R"({"dtype":"U8","shape":[-16],"data_offsets":[0,16]})", "found -16"},
    {"ShapeTwiceNegative", R"({"dtype":"U8","shape":[-4,-4],"data_offsets":[0,16]})", "found -4"},
    {"ShapeFloat", R"({"dtype":"U8","shape":[16.0],"data_offsets":[0,16]})", "found 16.0"},
    {"ShapeString", R"({"dtype":"U8","shape":["16"],"data_offsets":[0,16]})", "found \"16\""},
    {"ShapeNested", R"({"dtype":"U8","shape":[[16]],"data_offsets":[0,16]})", "found [16]"},
    {"ShapeTwoTo63", R"({"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,16]})",
     "found 9223372036854775808"},
    {"ShapeTwoTo64", R"({"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,16]})",
     "must hold integers"},
    // 2^32 * 2^32 is 0 in 64 bits, 2^61 * 8 bytes is too.
    {"ShapeProductWraps", R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})",
     "more than 2^63 bytes"},
    {"ShapeBytesWrap", R"({"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]})",
     "more than 2^63 bytes"},
    {"ShapeWrapsBeforeZero",
     R"({"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]})",
     "more than 2^63 bytes"},
    {"ShapeTooSmall", R"({"dtype":"F32","shape":[3],"data_offsets":[0,16]})",
     "F32 [3] takes 12 bytes, but 'data_offsets' [0, 16] hold 16"},
    {"ShapeTooLarge", R"({"dtype":"BF16","shape":[3,3],"data_offsets":[0,16]})",
     "BF16 [3, 3] takes 18 bytes"},
    {"ScalarOfManyBytes", R"({"dtype":"F32","shape":[],"data_offsets":[0,16]})", "takes 4 bytes"},
    {"OffsetsObject", R"({"dtype":"U8","shape":[16],"data_offsets":{}})", "must be an array"},
    {"OffsetsOne", R"({"dtype":"U8","shape":[16],"data_offsets":[0]})", "must be [begin, end]"},
    {"OffsetsThree", R"({"dtype":"U8","shape":[16],"data_offsets":[0,8,16]})", "[begin, end]"},
    {"OffsetsReversed", R"({"dtype":"U8","shape":[16],"data_offsets":[16,0]})", "[16, 0]"},
    {"OffsetsNegative", R"({"dtype":"U8","shape":[16],"data_offsets":[-1,15]})", "found -1"},
    {"OffsetsBeyond", R"({"dtype":"U8","shape":[17],"data_offsets":[0,17]})",
     "must lie in the file's 16 data bytes"},
    {"OffsetsFarBeyond",
     R"({"dtype":"U8","shape":[16],"data_offsets":[9223372036854775791,9223372036854775807]})",
     "must lie in the file's 16 data bytes"},
    {"OffsetsTwoTo63", R"({"dtype":"U8","shape":[16],"data_offsets":[0,9223372036854775808]})",
     "found 9223372036854775808"},
    {"GapInFront", R"({"dtype":"U8","shape":[15],"data_offsets":[1,16]})", "a gap"},
};

INSTANTIATE_TEST_SUITE_P(All, BadTensorTest, testing::ValuesIn(kBadTensors),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(SafetensorsHeaderTest, GapsOverlapsAndRests) {
  const std::string a = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)";
  EXPECT_THAT(refused(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})", 9),
              AllOf(HasSubstr("tensor 'b' begins at byte 5"), HasSubstr("expected 4"),
                    HasSubstr("'a' ends"), HasSubstr("a gap")));
  EXPECT_THAT(refused(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})", 7),
              AllOf(HasSubstr("tensor 'b' begins at byte 3"), HasSubstr("overlap")));
  EXPECT_THAT(refused(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4),
              HasSubstr("overlap"));
  // An empty tensor inside another one.
  EXPECT_THAT(refused(a + R"("b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})", 4),
              AllOf(HasSubstr("tensor 'b'"), HasSubstr("overlap")));
  EXPECT_THAT(refused(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", 9),
              AllOf(HasSubstr("end at byte 8"), HasSubstr("holds 9")));
  EXPECT_THAT(refused("{}", 1), HasSubstr("holds 1"));
}

TEST_F(SafetensorsHeaderTest, Metadata) {
  EXPECT_THAT(refused(R"({"__metadata__":{"step":1}})", 0),
              AllOf(HasSubstr("'step'"), HasSubstr("must be a string, found 1")));
  EXPECT_THAT(refused(R"({"__metadata__":{"a":null}})", 0), HasSubstr("must be a string"));
  EXPECT_THAT(refused(R"({"__metadata__":[]})", 0), HasSubstr("must be an object"));
  EXPECT_THAT(refused(R"({"__metadata__":"pt"})", 0), HasSubstr("must be an object"));
  EXPECT_EQ(opened(R"({"__metadata__":{"format":"pt","x":"y"}})", 0)->metadata().at("x"), "y");
}

TEST_F(SafetensorsHeaderTest, LegalCorners) {
  EXPECT_TRUE(opened("{}", 0)->tensors().empty());
  EXPECT_TRUE(opened("{}      ", 0)->tensors().empty());
  const auto file = opened(R"({"second":{"dtype":"U8","shape":[4],"data_offsets":[4,8]},)"
                           R"("scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                           R"("empty":{"dtype":"F32","shape":[0,9],"data_offsets":[4,4]},)"
                           R"("last":{"data_offsets":[8,8],"shape":[0],"dtype":"I64","more":1}})",
                           8);
  EXPECT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->read_all(file->tensors().at("scalar")), (std::vector<char>{0, 1, 2, 3}));
  EXPECT_EQ(file->read_all(file->tensors().at("second")), (std::vector<char>{4, 5, 6, 7}));
  EXPECT_EQ(file->tensors().at("empty").count(), 0);
  EXPECT_TRUE(file->read_all(file->tensors().at("last")).empty());
}

TEST_F(SafetensorsHeaderTest, EveryTruncationIsRefused) {
  const std::string bytes =
      test::safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  for (size_t size = 0; size < bytes.size(); ++size) refused_bytes(bytes.substr(0, size));
  refused_bytes(bytes + '\0');
}

}  // namespace
}  // namespace halftone
