// Expectations are what the tokenizers library (0.23.3) gives for the same parts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/tokenizer_fixture.h"
#include "text/pre_tokenizer.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using Texts = std::vector<std::string>;

// `at_start`: whether the text is the beginning of the original.
Texts pieces_of(const Json& part, const std::string& text, bool at_start = true) {
  Pieces pieces({text, at_start ? size_t{1} : size_t{0}});
  make_pre_tokenizer(part, "file, pre_tokenizer")->apply(pieces);
  Texts result;
  for (const Piece& piece : pieces.list) result.emplace_back(piece.text);
  return result;
}

// JSON: the part, the text, the pieces.
struct Case {
  const char* part;
  const char* text;
  const char* pieces;
};

void expect_all(const std::vector<Case>& cases) {
  for (const Case& test : cases) {
    EXPECT_EQ(
        pieces_of(parse_json(test.part, "part"), parse_json(test.text, "text").get<std::string>()),
        parse_json(test.pieces, "pieces").get<Texts>())
        << test.part << " of " << test.text;
  }
}

TEST(PreTokenizerTest, SplitBehaviors) {
  struct Row {
    const char* behavior;
    Texts pieces;
    Texts inverted;
  };
  const std::vector<Row> rows = {
      {"Isolated",
       {"-", "-", "a", "-", "bc", "-", "-", "d", "-"},
       {"-", "-", "a", "-", "bc", "-", "-", "d", "-"}},
      {"Removed", {"a", "bc", "d"}, {"-", "-", "-", "-", "-", "-"}},
      {"MergedWithPrevious",
       {"-", "-", "a-", "bc-", "-", "d-"},
       {"-", "-a", "-bc", "-", "-d", "-"}},
      {"MergedWithNext", {"-", "-a", "-bc", "-", "-d", "-"}, {"-", "-", "a-", "bc-", "-", "d-"}},
      {"Contiguous",
       {"--", "a", "-", "bc", "--", "d", "-"},
       {"--", "a", "-", "bc", "--", "d", "-"}},
  };
  for (const Row& row : rows) {
    Json part = {{"type", "Split"},
                 {"pattern", {{"Regex", "-"}}},
                 {"behavior", row.behavior},
                 {"invert", false}};
    EXPECT_EQ(pieces_of(part, "--a-bc--d-"), row.pieces) << row.behavior;
    part["invert"] = true;
    EXPECT_EQ(pieces_of(part, "--a-bc--d-"), row.inverted) << row.behavior;
  }
}

TEST(PreTokenizerTest, Patterns) {
  expect_all({
      {R"({"type": "Split", "pattern": {"Regex": "x*"}, "behavior": "Isolated"})", R"("axxb")",
       R"(["a", "xx", "b"])"},
      {R"({"type": "Split", "pattern": {"String": "."}, "behavior": "Removed"})", R"("a.b..c")",
       R"(["a", "b", "c"])"},
      {R"({"type": "Split", "pattern": {"Regex": "\\b"}, "behavior": "Isolated"})",
       R"("ab c\u00b2-")", R"(["ab", " ", "c\u00b2", "-"])"},
      {R"({"type": "Digits", "individual_digits": false})", R"("a12b\u00bd3")",
       R"(["a", "12", "b", "\u00bd3"])"},
      {R"({"type": "Digits", "individual_digits": true})", R"("a12b")", R"(["a", "1", "2", "b"])"},
      {R"({"type": "Whitespace"})", R"("don't \u00e9\u0301_1 ..!\u200dx")",
       R"(["don", "'", "t", "\u00e9\u0301_1", "..!", "\u200dx"])"},
      {R"({"type": "WhitespaceSplit"})", R"(" a\u00a0b\u180ec\u3000\n")", R"(["a", "b\u180ec"])"},
      {R"({"type": "CharDelimiterSplit", "delimiter": "|"})", R"("a||b")", R"(["a", "b"])"},
      {R"({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true})", R"("a b")",
       R"(["\u0120a", "\u0120b"])"},
      {"null", R"("a b")", R"(["a b"])"},
      {"null", R"("")", "[]"},
  });
}

#ifdef HALFTONE_HAS_ICU
TEST(PreTokenizerTest, Punctuation) {
  expect_all({
      {R"({"type": "Punctuation"})", R"("a+b,\u00bfc\u2e43\u166d")",
       R"(["a", "+", "b", ",", "\u00bf", "c\u2e43", "\u166d"])"},
      {R"({"type": "Punctuation", "behavior": "Contiguous"})", R"("a..b!")",
       R"(["a", "..", "b", "!"])"},
      {R"({"type": "BertPreTokenizer"})", R"("a b,c$")", R"(["a", "b", ",", "c", "$"])"},
      // Falcon's: parts behind ByteLevel see its alphabet.
      {R"({"type": "Sequence", "pretokenizers": [
            {"type": "Punctuation", "behavior": "Contiguous"},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            {"type": "Digits", "individual_digits": false},
            {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated"}]})",
       R"("It's 12345!!\u00e9")",
       R"(["It", "'", "s", "\u0120", "123", "45", "!!", "\u00c3\u00a9"])"},
  });
}
#endif

TEST(PreTokenizerTest, Metaspace) {
  const auto part = [](const char* scheme, bool split) {
    return Json{
        {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", scheme}, {"split", split}};
  };
  EXPECT_THAT(pieces_of(part("always", true), "a  b_c"), ElementsAre("_a", "_", "_b", "_c"));
  EXPECT_THAT(pieces_of(part("always", false), "a  b_c"), ElementsAre("_a__b_c"));
  EXPECT_THAT(pieces_of(part("always", false), " a"), ElementsAre("_a"));
  EXPECT_THAT(pieces_of(part("always", false), "_a"), ElementsAre("_a"));
  EXPECT_THAT(pieces_of(part("never", true), "a b"), ElementsAre("a", "_b"));
  EXPECT_THAT(pieces_of(part("first", true), "a b"), ElementsAre("_a", "_b"));
  EXPECT_THAT(pieces_of(part("first", true), "a b", false), ElementsAre("a", "_b"));
  // "First" is the first character of the original, whatever was cut before.
  const auto words_first = [&](const std::string& text) {
    return pieces_of({{"type", "Sequence"},
                      {"pretokenizers", {{{"type", "WhitespaceSplit"}}, part("first", true)}}},
                     text);
  };
  EXPECT_THAT(words_first("a b"), ElementsAre("_a", "b"));
  EXPECT_THAT(words_first(" a b"), ElementsAre("a", "b"));
}

TEST(PreTokenizerTest, OldMetaspaces) {
  Json part = {{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", true}};
  EXPECT_THAT(pieces_of(part, "a b"), ElementsAre("_a", "_b"));
  part["add_prefix_space"] = false;
  EXPECT_THAT(pieces_of(part, "a b"), ElementsAre("a", "_b"));
  part["prepend_scheme"] = "always";
  expect_error<InputError>([&] { pieces_of(part, "a"); }, "'prepend_scheme' contradict");
  part["replacement"] = "__";
  expect_error<InputError>([&] { pieces_of(part, "a"); }, "'replacement' must be one character");
  part = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}};
  expect_error<InputError>([&] { pieces_of(part, "a"); }, "the prepend_scheme 'last'");
}

}  // namespace
}  // namespace halftone
