// Expectations are what the tokenizers library (0.23.3) gives for the same models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>

#include "tests/text/tokenizer_fixture.h"
#include "text/token_model.h"

namespace halftone {
namespace {

using testing::ElementsAre;

std::vector<TokenId> ids_of(const Json& model, const std::string& piece) {
  std::vector<TokenId> ids;
  make_token_model(model, "file")->append_ids(piece, ids);
  return ids;
}

void expect_refused(const Json& model, const std::string& message) {
  expect_error<InputError>([&] { make_token_model(model, "file"); }, message);
}

Json bpe(const Json& merges) {
  return {{"type", "BPE"},
          {"vocab", parse_json(R"({"a": 0, "b": 1, "##b": 2, "b</w>": 3, "##b</w>": 4, "a##b": 5,
                                   "ab": 6, "ab</w>": 7, "<unk>": 8, "<0xC3>": 9, "<0xA9>": 10,
                                   "a</w>": 11})",
                               "vocab")},
          {"merges", merges}};
}

Json unigram() {
  return parse_json(R"({"type": "Unigram", "unk_id": 0, "vocab": [
      ["<unk>", 0.0], ["a", -1.0], ["b", -2.0], ["ab", -2.5], ["abc", -3.0], ["c", -5.0],
      ["xy", -4.0]]})",
                    "unigram");
}

TEST(BpeTest, PrefixesAndSuffixes) {
  Json model = bpe({"a ##b", "a ##b</w>"});
  model["continuing_subword_prefix"] = "##";
  EXPECT_THAT(ids_of(model, "abb"), ElementsAre(6, 2));
  model["end_of_word_suffix"] = "</w>";
  EXPECT_THAT(ids_of(model, "ab"), ElementsAre(7));
  EXPECT_THAT(ids_of(model, "a"), ElementsAre(11));
}

TEST(BpeTest, SpellsInBytes) {
  Json model = bpe({"a b"});
  model["byte_fallback"] = true;
  model["unk_token"] = "<unk>";
  EXPECT_THAT(ids_of(model,
                     "a\xC3\xA9\xC3\xA8"
                     "b"),
              ElementsAre(0, 9, 10, 8, 1));
  // Bytes pass an unknown token.
  EXPECT_THAT(ids_of(model,
                     "\xC3\xA8\xC3\xA9"
                     "b"),
              ElementsAre(9, 10, 8, 1));
  model["fuse_unk"] = true;
  EXPECT_THAT(ids_of(model, "\xC3\xA8zab\xC3\xA8"), ElementsAre(8, 6, 8));
}

TEST(BpeTest, UnknownTokensAreNeededOnlyWhenUsed) {
  Json model = bpe({"#version: 0.2", "a b"});
  model["unk_token"] = "[UNK]";
  EXPECT_THAT(ids_of(model, "ab"), ElementsAre(6));
  expect_error<InputError>([&] { ids_of(model, "az"); },
                           "unk_token '[UNK]' is not in the vocabulary, and the text needs it");
}

TEST(BpeTest, RefusesDamage) {
  Json model = bpe({"a b"});
  model["continuing_subword_prefix"] = "##";
  expect_refused(model, "'b' does not begin with the continuing_subword_prefix '##'");
  model = bpe({"a b"});
  model["dropout"] = 0.1;
  expect_refused(model, "file, model: dropout is not supported");
}

TEST(UnigramTest, TakesTheBestSum) {
  EXPECT_THAT(ids_of(unigram(), "abc"), ElementsAre(4));
  EXPECT_THAT(ids_of(unigram(), "ab"), ElementsAre(3));
  EXPECT_THAT(ids_of(unigram(), "abab"), ElementsAre(3, 3));
}

TEST(UnigramTest, FusesUnknownCharacters) {
  EXPECT_THAT(ids_of(unigram(), "zz"), ElementsAre(0));
  EXPECT_THAT(ids_of(unigram(), "azzb"), ElementsAre(1, 0, 2));
  EXPECT_THAT(ids_of(unigram(), "<unk>z"), ElementsAre(0));
  EXPECT_THAT(ids_of(unigram(), "xyz"), ElementsAre(6, 0));
  EXPECT_THAT(ids_of(unigram(),
                     "\xE4\xB8\xAD\xE6\x96\x87"
                     "a"),
              ElementsAre(0, 1));
}

TEST(UnigramTest, SpellsInBytes) {
  Json model = unigram();
  model["byte_fallback"] = true;
  for (int byte = 0; byte < 256; ++byte) {
    std::array<char, 8> token{};
    std::snprintf(token.data(), token.size(), "<0x%02X>", byte);
    model["vocab"].push_back({token.data(), -6.0});
  }
  EXPECT_THAT(ids_of(model, "\xC3\xA9"), ElementsAre(202, 176));
  EXPECT_THAT(ids_of(model,
                     "z\xC3\xA9"
                     "a"),
              ElementsAre(129, 202, 176, 1));
}

TEST(UnigramTest, EqualSumsKeepTheFirstFound) {
  const Json model = parse_json(R"({"type": "Unigram", "unk_id": 0, "vocab": [
      ["<unk>", 0.0], ["a", -1.0], ["aa", -2.0], ["aaa", -3.0]]})",
                                "unigram");
  EXPECT_THAT(ids_of(model, "aaaaaaa"), ElementsAre(1, 3, 3));
}

TEST(UnigramTest, OfEqualTokensTheLaterCounts) {
  Json model = unigram();
  model["vocab"].push_back({"a", -1.5});
  EXPECT_THAT(ids_of(model, "a"), ElementsAre(7));
}

TEST(UnigramTest, RefusesDamage) {
  Json model = unigram();
  model["unk_id"] = nullptr;
  EXPECT_THAT(ids_of(model, "ab"), ElementsAre(3));
  expect_error<InputError>([&] { ids_of(model, "az"); }, "'unk_id' is null");
  model["unk_id"] = 7;
  expect_refused(model, "file, model: 'unk_id' is 7, but there are 7 tokens");
  model["unk_id"] = -1;
  expect_refused(model, "'unk_id': expected a token id");
  for (const Json& entry : {Json("a"), Json({"a"}), Json({"a", "b"}), Json({1, -1.0})}) {
    model = unigram();
    model["vocab"].push_back(entry);
    expect_refused(model, "model.vocab[7]: expected [token, score]");
  }
  model["vocab"] = Json::object();
  expect_refused(model, "'vocab' must be a list");
}

TEST(TokenModelTest, RefusesOtherModels) {
  expect_refused({{"type", "WordPiece"}},
                 "file, model: type 'WordPiece' is not supported; supported: BPE, Unigram");
  expect_refused(Json::array(), "expected an object");
}

}  // namespace
}  // namespace halftone
