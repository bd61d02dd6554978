// The parts of tokenizer.json one at a time; expectations follow from the rules by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/tokenizer_fixture.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<TokenId> encode(const Json& file, const std::string& text) {
  return load_from(file, Json::object())->encode(text);
}

Json split(const std::string& pattern, const std::string& behavior, bool invert) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", behavior},
          {"invert", invert}};
}

// Splits and then bytes, without the regular expression of ByteLevel.
Json with_splits(std::vector<Json> splits) {
  Json file = small_tokenizer();
  splits.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", splits}};
  return file;
}

TEST(TokenizerStructureTest, MergesByRankFromTheLeft) {
  EXPECT_THAT(encode(small_tokenizer(), "abcd"), ElementsAre(5, 7));  // "c d" comes first
  EXPECT_THAT(encode(small_tokenizer(), "abc"), ElementsAre(6));
  EXPECT_THAT(encode(small_tokenizer(), "ab abc"), ElementsAre(5, 4, 6));
  EXPECT_THAT(encode(small_tokenizer(), ""), IsEmpty());
}

TEST(TokenizerStructureTest, IgnoreMergesTakesWholeWords) {
  Json file = small_tokenizer();
  EXPECT_THAT(encode(file, "dd"), ElementsAre(3, 3));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(encode(file, "dd"), ElementsAre(9));
  EXPECT_THAT(encode(file, "ddd"), ElementsAre(3, 3, 3));
}

TEST(TokenizerStructureTest, BytesWithoutTokenAreUnknownOrDropped) {
  Json file = small_tokenizer();
  EXPECT_THAT(encode(file, "axxb"), ElementsAre(5));
  file["model"]["unk_token"] = "dd";
  EXPECT_THAT(encode(file, "axxb"), ElementsAre(0, 9, 9, 1));
  file["model"]["fuse_unk"] = true;
  EXPECT_THAT(encode(file, "axxb"), ElementsAre(0, 9, 1));
}

TEST(TokenizerStructureTest, SplitsKeepOrRemove) {
  EXPECT_THAT(encode(with_splits({}), "abab"), ElementsAre(5, 5));
  EXPECT_THAT(encode(with_splits({split("b", "Isolated", false)}), "abab"),
              ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(encode(with_splits({split("b", "Removed", false)}), "abab"), ElementsAre(0, 0));
  EXPECT_THAT(encode(with_splits({split("b", "Removed", true)}), "abab"), ElementsAre(1, 1));
  // The second one sees the pieces of the first: there is no "ab" in them any more.
  EXPECT_THAT(
      encode(with_splits({split("b", "Isolated", false), split("ab", "Removed", false)}), "abab"),
      ElementsAre(0, 1, 0, 1));
  Json literal = split("", "Isolated", false);
  literal["pattern"] = {{"String", " a"}};
  EXPECT_THAT(encode(with_splits({literal}), "b ab"), ElementsAre(1, 8, 1));
}

TEST(TokenizerStructureTest, DigitsStandAlone) {
  Json file = with_splits({{{"type", "Digits"}, {"individual_digits", true}}});
  file["model"]["vocab"].update({{"1", 10}, {"11", 11}, {"a1", 12}});
  file["model"]["merges"].insert(file["model"]["merges"].end(), {"1 1", "a 1"});
  EXPECT_THAT(encode(file, "a11"), ElementsAre(0, 10, 10));
  file["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false;
  EXPECT_THAT(encode(file, "a11"), ElementsAre(0, 11));
}

TEST(TokenizerStructureTest, PrefixSpace) {
  Json file = small_tokenizer();
  file["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_THAT(encode(file, "a"), ElementsAre(8));
  EXPECT_THAT(encode(file, " a"), ElementsAre(8));
  // Every text between added tokens has its own.
  file["added_tokens"] = {added_token("<x>", 10)};
  EXPECT_THAT(encode(file, "a<x>a"), ElementsAre(8, 10, 8));
}

TEST(TokenizerStructureTest, AddedTokensAreFoundLongestFirst) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("<x", 10), added_token("<x>a", 11), added_token("x>", 12)};
  EXPECT_THAT(encode(file, "b<x>ab"), ElementsAre(1, 11, 1));
  EXPECT_THAT(encode(file, "b<x>b"), ElementsAre(1, 10, 1));  // '>' has no token
  // Those that are subject to normalization come second, even where they begin earlier.
  file["added_tokens"][0]["normalized"] = true;
  file["added_tokens"][1]["normalized"] = true;
  EXPECT_THAT(encode(file, "b<x>ab"), ElementsAre(1, 12, 5));
}

TEST(TokenizerStructureTest, AddedTokensTakeTheirSpaces) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("<x>", 10)};
  EXPECT_THAT(encode(file, "a \n<x> a"), ElementsAre(0, 4, 10, 8));
  file["added_tokens"][0]["lstrip"] = true;
  EXPECT_THAT(encode(file, "a \n<x> a"), ElementsAre(0, 10, 8));
  file["added_tokens"][0]["rstrip"] = true;
  const auto tokenizer = load_from(file, Json::object());
  EXPECT_THAT(tokenizer->encode("a \n<x> a"), ElementsAre(0, 10, 0));
  EXPECT_EQ(tokenizer->decode({0, 10, 0}, false), "a<x>a");
}

TEST(TokenizerStructureTest, SingleWordsStandAlone) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("b", 1)};
  file["added_tokens"][0]["single_word"] = true;
  EXPECT_THAT(encode(file, "abc"), ElementsAre(6));
  EXPECT_THAT(encode(file, "a b c"), ElementsAre(0, 4, 1, 4, 2));
  file["added_tokens"][0] = added_token("dd", 9);
  file["added_tokens"][0]["single_word"] = true;
  EXPECT_THAT(encode(file, "dd"), ElementsAre(9));
  EXPECT_THAT(encode(file, "dda"), ElementsAre(3, 3, 0));
  EXPECT_THAT(encode(file,
                     "\xC3\xA9"
                     "dd"),
              ElementsAre(3, 3));                                  // e with acute
  EXPECT_THAT(encode(file, "dd\xC2\xB2"), ElementsAre(9));         // superscript two
  EXPECT_THAT(encode(file, "dd\xE2\x80\x8D"), ElementsAre(3, 3));  // zero width joiner
}

TEST(TokenizerStructureTest, TemplatesAndConfiguredBos) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("<s>", 10), added_token("</s>", 11)};
  Json config = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
  EXPECT_THAT(load_from(file, config)->encode("ab"), ElementsAre(5));
  config["add_bos_token"] = true;
  EXPECT_THAT(load_from(file, config)->encode("ab"), ElementsAre(10, 5));
  EXPECT_THAT(load_from(file, config)->encode("ab", false), ElementsAre(5));
  config["add_eos_token"] = true;
  EXPECT_THAT(load_from(file, config)->encode(""), ElementsAre(10, 11));

  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json tokens = {{"<s>", {{"id", "<s>"}, {"ids", {10}}, {"tokens", {"<s>"}}}}};
  const Json bos_template = {
      {"type", "TemplateProcessing"}, {"single", {bos, text}}, {"special_tokens", tokens}};
  file["post_processor"] = {{"type", "Sequence"},
                            {"processors", {{{"type", "ByteLevel"}}, bos_template}}};
  // The template has the bos: the configuration adds no second one.
  EXPECT_THAT(load_from(file, config)->encode("ab"), ElementsAre(10, 5, 11));
  EXPECT_THAT(load_from(file, Json::object())->encode("ab"), ElementsAre(10, 5));
  file["post_processor"]["processors"][1]["single"] = {text, bos};
  EXPECT_THAT(load_from(file, Json::object())->encode("ab"), ElementsAre(5, 10));
}

TEST(TokenizerStructureTest, ClassicPairs) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("<s>", 10), added_token("</s>", 11)};
  for (const char* type : {"BertProcessing", "RobertaProcessing"}) {
    file["post_processor"] = {{"type", type}, {"cls", {"<s>", 10}}, {"sep", {"</s>", 11}}};
    EXPECT_THAT(load_from(file, Json::object())->encode("ab"), ElementsAre(10, 5, 11));
  }
}

// Both expectations are what the tokenizers library (0.23.3) gives.
TEST(TokenizerStructureTest, NormalizedTokensAreFoundInNormalizedText) {
  Json file = small_tokenizer();
  file["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", "y"}};
  file["added_tokens"] = {added_token("<x>", 10)};
  EXPECT_THAT(encode(file, "a<y>a"), ElementsAre(0, 0));
  file["added_tokens"][0]["normalized"] = true;
  const auto tokenizer = load_from(file, Json::object());
  EXPECT_THAT(tokenizer->encode("a<x>a"), ElementsAre(0, 10, 0));
  EXPECT_THAT(tokenizer->encode("a<y>a"), ElementsAre(0, 10, 0));
  // Decoding shows the normalized form, and does not take it for the special token any more.
  EXPECT_EQ(tokenizer->decode({0, 10, 0}), "a<y>a");
}

TEST(TokenizerStructureTest, SpacesTakenByATokenAreNoTokens) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("<x>", 10), added_token("\n\n", 11)};
  file["added_tokens"][0]["rstrip"] = true;
  EXPECT_THAT(encode(file, "<x>\n\na"), ElementsAre(10, 11, 0));
  file["added_tokens"][1]["lstrip"] = true;
  EXPECT_THAT(encode(file, "<x>\n\na"), ElementsAre(10, 0));
}

TEST(TokenizerStructureTest, PadFallsBack) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("<s>", 10), added_token("</s>", 11), added_token("<p>", 12)};
  Json config = Json::object();
  EXPECT_EQ(load_from(file, config)->pad_id(), 0);
  EXPECT_FALSE(load_from(file, config)->bos_id().has_value());
  config["bos_token"] = "<s>";
  EXPECT_EQ(load_from(file, config)->pad_id(), 10);
  config["eos_token"] = "</s>";
  EXPECT_EQ(load_from(file, config)->pad_id(), 11);
  config["pad_token"] = "<p>";
  EXPECT_EQ(load_from(file, config)->pad_id(), 12);
  config["pad_token"] = "[PAD]";  // not in tokenizer.json
  EXPECT_EQ(load_from(file, config)->pad_id(), 11);
}

TEST(TokenizerStructureTest, WorksWithoutConfiguration) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", small_tokenizer().dump());
  EXPECT_THAT(load_tokenizer(folder.path())->encode("ab"), ElementsAre(5));
}

TEST(TokenizerStructureTest, DecodesKeptTokensAsText) {
  Json file = small_tokenizer();
  Json plain = added_token("<t>", 11);
  plain["special"] = false;
  file["added_tokens"] = {added_token("< s >", 10), plain};
  const auto tokenizer = load_from(file, Json::object());
  EXPECT_EQ(tokenizer->vocabulary_size(), 12);
  EXPECT_EQ(tokenizer->decode({10, 8, 11}), " a<t>");
  EXPECT_EQ(tokenizer->decode({10, 8, 11}, false), "< s > a<t>");
}

}  // namespace
}  // namespace halftone
