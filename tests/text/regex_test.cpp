#include "text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"
#include "text/regex_syntax.h"

namespace halftone {
namespace {

using testing::ElementsAre;

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<std::string> found;
  for (const Span span : Regex(pattern, "test").find_all(text)) {
    found.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return found;
}

TEST(RegexTest, WhiteSpaceHasNoU180e) {
  const std::string text = "a \xE1\xA0\x8E\xC2\xA0";  // a, space, U+180E, U+00A0
  EXPECT_THAT(matches(R"(\s)", text), ElementsAre(" ", "\xC2\xA0"));
  EXPECT_THAT(matches(R"([\s])", text), ElementsAre(" ", "\xC2\xA0"));
  EXPECT_THAT(matches(R"(\S)", text), ElementsAre("a", "\xE1\xA0\x8E"));
  EXPECT_THAT(matches(R"([^\s])", text), ElementsAre("a", "\xE1\xA0\x8E"));
  EXPECT_THAT(matches(R"(\\s)", R"(\s )"), ElementsAre(R"(\s)"));  // an escaped backslash
}

TEST(RegexTest, WordCharactersAreThoseOfOniguruma) {
  // U+00BD is one outside of a class only; U+0301 (a mark) and '_' are, U+2160 is (a letter
  // number).
  EXPECT_THAT(matches(R"(\w+)", "a\xCC\x81_\xC2\xBD!"), ElementsAre("a\xCC\x81_\xC2\xBD"));
  EXPECT_THAT(matches(R"([\w]+)", "a\xC2\xBD!"), ElementsAre("a"));
  EXPECT_THAT(matches(R"(\W)", "a! \xC2\xBD"), ElementsAre("!", " "));
}

TEST(RegexTest, WordBoundariesAreThoseOfOniguruma) {
  EXPECT_THAT(matches(R"(\b\S)", "ab c\xC2\xB2-"), ElementsAre("a", "c", "-"));
  EXPECT_THAT(matches(R"(\B\S)", "ab \xC2\xBD-"), ElementsAre("b"));
  EXPECT_THAT(matches(R"(\d{1,3}(?=(?:\d{3})*\b))", "12345 1a"), ElementsAre("12", "345"));
}

TEST(RegexTest, ClassesInsideOfClassesAddUp) {
  EXPECT_THAT(matches("[a[bc]d]+", "abcd]"), ElementsAre("abcd"));
  // BLOOM's words.
  EXPECT_THAT(matches(R"( ?[^(\s|[.,!?])]+)", "ab c|d, (e)!"), ElementsAre("ab", " c", "d", "e"));
}

TEST(RegexTest, SplitsLikeOniguruma) {
  EXPECT_THAT(matches(R"(\p{Han}+)", "a\xE4\xB8\xAD\xE3\x80\x82"), ElementsAre("\xE4\xB8\xAD"));
  EXPECT_THAT(matches(R"([\u4e00-\u9fff]|\x41)", "A\xE4\xB8\xAD"),
              ElementsAre("A", "\xE4\xB8\xAD"));
  EXPECT_THAT(matches(R"([]a]+)", "a]b"), ElementsAre("a]"));
  EXPECT_THAT(matches("^a", "a\na"), ElementsAre("a", "a"));
  EXPECT_THAT(matches("x*", "axxb"), ElementsAre("", "xx", ""));
  EXPECT_THAT(matches("x*", ""), ElementsAre(""));
  EXPECT_THAT(matches(R"((?i:'s|'ll))", "'S 'lL 'x"), ElementsAre("'S", "'lL"));
}

TEST(RegexTest, RefusesWhatItCannotTranslate) {
  for (const std::string pattern : {R"(\h)",        R"([\b])", R"(\1)",    R"(\Qa\E)", "[a[^b]]",
                                    "[a[:alpha:]]", "[a[]b]]", "[a[b-]c]", "[a-[b]]",  "[a&&b]",
                                    "(?<n>a)",      "(?i)a",   "(*FAIL)",  "a{2}+",    "a{,2}",
                                    R"([\W])",      R"(\u12)", R"(\xFF)",  R"(\p)",    "\\"}) {
    expect_error<InputError>([&] { Regex(pattern, "file, part"); }, "file, part: ");
    EXPECT_THROW(oniguruma_to_pcre2(pattern, "x"), InputError) << pattern;
  }
  expect_error<InputError>([] { Regex("(a", "file"); }, "cannot be compiled");
  expect_error<InputError>([] { Regex(R"(\p{Nonsense})", "file"); }, "cannot be compiled");
}

TEST(RegexTest, GivesUpOnCatastrophicPatterns) {
  const Regex regex(R"((?:a+)+\p{N})", "file");
  expect_error<InputError>([&] { regex.find_all(std::string(60, 'a')); }, "gave up");
}

TEST(RegexTest, GoesOnWhereTheCompiledCodesStackEnds) {
  const std::string text(200'000, 'a');
  EXPECT_THAT(matches("(?:a|b)*", text), ElementsAre(text));
}

}  // namespace
}  // namespace halftone
