#include "text/utf8.h"

#include <gtest/gtest.h>

namespace halftone {
namespace {

TEST(Utf8Test, AcceptsEveryCharacterAndNothingElse) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    std::string text;
    append_utf8(code, text);
    const Utf8Char found = utf8_char_at(text, 0);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    ASSERT_EQ(found.valid, !surrogate) << static_cast<uint32_t>(code);
    if (surrogate) continue;
    ASSERT_EQ(found.code, code);
    ASSERT_EQ(found.bytes, text.size());
    ASSERT_EQ(utf8_char_before("x" + text, text.size() + 1).code, code);
  }
}

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  EXPECT_EQ(first_invalid_utf8(""), std::string::npos);
  EXPECT_EQ(first_invalid_utf8("a\xC3\xA9\xF0\x9F\x98\x80"), std::string::npos);
  EXPECT_EQ(first_invalid_utf8("ab\x80"), 2U);            // a follower alone
  EXPECT_EQ(first_invalid_utf8("a\xC0\xAF"), 1U);         // overlong
  EXPECT_EQ(first_invalid_utf8("\xE0\x80\xAF"), 0U);      // overlong
  EXPECT_EQ(first_invalid_utf8("\xF0\x80\x80\xAF"), 0U);  // overlong
  EXPECT_EQ(first_invalid_utf8("ab\xED\xA0\x80"), 2U);    // surrogate
  EXPECT_EQ(first_invalid_utf8("\xF4\x90\x80\x80"), 0U);  // above U+10FFFF
  EXPECT_EQ(first_invalid_utf8("\xC3\xA9\xE2\x82"), 2U);  // truncated
  EXPECT_EQ(first_invalid_utf8("\xFF"), 0U);
}

// Examples of the Unicode standard (chapter 3.9, replacement of maximal subparts).
TEST(Utf8Test, ReplacesMaximalSubparts) {
  const std::string mark = "\xEF\xBF\xBD";
  EXPECT_EQ(lossy_utf8("a\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a" + mark + mark + mark + "b" + mark + "c" + mark + mark + "d");
  EXPECT_EQ(lossy_utf8("\xC0\xAF"), mark + mark);
  EXPECT_EQ(lossy_utf8("\xED\xA0\x80"), mark + mark + mark);
  EXPECT_EQ(lossy_utf8("\xE2\x82"), mark);
}

TEST(Utf8Test, KnowsWhiteSpace) {
  EXPECT_TRUE(is_white_space(U' '));
  EXPECT_TRUE(is_white_space(U'\n'));
  EXPECT_TRUE(is_white_space(0x85));
  EXPECT_TRUE(is_white_space(0x3000));
  EXPECT_FALSE(is_white_space(0x180E));
  EXPECT_FALSE(is_white_space(0x200B));
}

}  // namespace
}  // namespace halftone
