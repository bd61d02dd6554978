#include "text/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/tokenizer_fixture.h"

namespace halftone {
namespace {

using testing::ElementsAre;

class DatasetTest : public testing::Test {
 protected:
  Dataset parse(const std::string& text) const {
    return parse_jsonl_dataset(text, "calib.jsonl", tokenizer_.get(), options_);
  }
  Dataset load(const std::vector<fs::path>& files) const {
    return load_dataset(files, tokenizer_.get(), options_);
  }
  void expect_refused(const std::string& text, const std::string& part) const {
    expect_error<InputError>([&] { parse(text); }, part);
  }

  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = load_from(small_tokenizer(), Json::object());
  DatasetOptions options_;
};

TEST_F(DatasetTest, ReadsTextsIdsAndLists) {
  const Dataset data = parse(
      "{\"text\": \"abc\"}\r\n"
      "\n"
      "{\"input_ids\": [1, 2]}\n"
      "[3]\n"
      "{\"text\": \"ab\", \"input_ids\": [9]}\n"
      "{\"text\": null, \"input_ids\": [9]}");
  ASSERT_EQ(data.samples.size(), 5U);
  EXPECT_THAT(data.samples[0].ids, ElementsAre(6));
  EXPECT_EQ(data.samples[0].origin, "calib.jsonl, line 1");
  EXPECT_THAT(data.samples[1].ids, ElementsAre(1, 2));
  EXPECT_EQ(data.samples[1].origin, "calib.jsonl, line 3");
  EXPECT_THAT(data.samples[2].ids, ElementsAre(3));
  EXPECT_THAT(data.samples[3].ids, ElementsAre(5));
  EXPECT_THAT(data.samples[4].ids, ElementsAre(9));
  EXPECT_EQ(data.dropped, 0);
}

TEST_F(DatasetTest, TakesAnotherTextField) {
  options_.text_field = "content";
  const Dataset data = parse(R"({"text": "a", "content": "abc"})");
  EXPECT_THAT(data.samples.at(0).ids, ElementsAre(6));
}

TEST_F(DatasetTest, DropsAndCountsEmptySamples) {
  const Dataset data = parse("{\"text\": \"\"}\n{\"input_ids\": []}\n{\"text\": \"ab\"}\n");
  EXPECT_EQ(data.samples.size(), 1U);
  EXPECT_EQ(data.dropped, 2);
}

TEST_F(DatasetTest, CutsOnTheRight) {
  options_.max_length = 2;
  const Dataset data = parse("[1, 2, 3]\n{\"text\": \"ab ab\"}\n[1]");
  EXPECT_THAT(data.samples.at(0).ids, ElementsAre(1, 2));
  EXPECT_THAT(data.samples.at(1).ids, ElementsAre(5, 4));
  EXPECT_THAT(data.samples.at(2).ids, ElementsAre(1));
  options_.max_length = 0;
  EXPECT_THAT(parse("[1, 2, 3]").samples.at(0).ids, ElementsAre(1, 2, 3));
}

TEST_F(DatasetTest, StopsReadingAfterTheLastSample) {
  options_.samples = 2;
  // What follows is never looked at.
  const fs::path file = folder_.write("a.jsonl", "[1]\n[2]\nnot JSON\n");
  EXPECT_EQ(load({file, folder_.path() / "absent.jsonl"}).samples.size(), 2U);
  EXPECT_EQ(parse("[1]\n[2]\nnot JSON\n").samples.size(), 2U);
  options_.samples = 0;
  expect_error<InputError>([&] { load({file}); }, file.string() + ", line 3: not valid JSON");
}

TEST_F(DatasetTest, SpecialTokensOnRequest) {
  Json file = small_tokenizer();
  file["added_tokens"] = {added_token("<s>", 10)};
  tokenizer_ = load_from(file, {{"bos_token", "<s>"}, {"add_bos_token", true}});
  EXPECT_THAT(parse(R"({"text": "ab"})").samples.at(0).ids, ElementsAre(10, 5));
  options_.add_special = false;
  EXPECT_THAT(parse(R"({"text": "ab"})").samples.at(0).ids, ElementsAre(5));
}

TEST_F(DatasetTest, ReadsFilesInOrder) {
  const fs::path plain = folder_.write("a.txt", "ab\nab");
  const fs::path lines = folder_.write("b.json", "[1]\n\n[2]");
  const Dataset data = load({plain, lines});
  ASSERT_EQ(data.samples.size(), 3U);
  EXPECT_EQ(data.samples[0].origin, plain.string());
  EXPECT_THAT(data.samples[0].ids, ElementsAre(5, 5));  // the newline has no token here
  EXPECT_EQ(data.samples[2].origin, lines.string() + ", line 3");
}

TEST_F(DatasetTest, ReadsLinesLongerThanAChunk) {
  std::string text = "[1";
  for (int i = 0; i < 800'000; ++i) text += ", 1";
  options_.max_length = 0;
  const Dataset data = load({folder_.write("a.jsonl", text + "]\n" + text + "]")});
  ASSERT_EQ(data.samples.size(), 2U);
  EXPECT_EQ(data.samples[0].ids.size(), 800'001U);
  EXPECT_EQ(data.samples[1].ids, data.samples[0].ids);
}

TEST_F(DatasetTest, IdsNeedNoTokenizer) {
  tokenizer_ = nullptr;
  EXPECT_EQ(parse("[1]\n{\"text\": \"ab\", \"input_ids\": [2]}").samples.size(), 2U);
  expect_refused("[1]\n{\"text\": \"ab\"}", "calib.jsonl, line 2: a text needs a tokenizer");
}

TEST_F(DatasetTest, ErrorsNameFileAndLine) {
  expect_refused("[1]\n[2]\n{\"text\": 3}", "calib.jsonl, line 3: 'text' must be a string");
  expect_refused("{\"text\": ", "calib.jsonl, line 1: not valid JSON");
  expect_refused("{\"texts\": \"a\"}",
                 "calib.jsonl, line 1: neither 'text' nor 'input_ids' is there, found 'texts' (did "
                 "you mean 'texts'?); choose the field with --text-field");
  expect_refused("3", "calib.jsonl, line 1: expected an object with 'text'");
  expect_refused("{\"input_ids\": \"1\"}", "'input_ids' must be a list of ids, found string");
  expect_refused("[1, -1]", "line 1: entry 1 of the list must be an id");
  expect_refused("[[1], [2]]", "line 1: entry 0 of the list must be an id");
  expect_refused("{\"input_ids\": [1.5]}", "line 1: entry 0 of 'input_ids' must be an id");
  expect_refused("[2147483648]", "must be an id from 0 to 2147483647");
  expect_refused("[18446744073709551615]", "must be an id from 0 to 2147483647");
  expect_refused("[1]\n{\"text\": \"\xC0\xAF\"}", "calib.jsonl, line 2: not valid JSON");
  expect_refused("{\"text\": \"\\ud800\"}", "calib.jsonl, line 1: not valid JSON");
}

TEST_F(DatasetTest, IdsAreInTheVocabulary) {
  options_.vocabulary = 6;
  EXPECT_EQ(parse("[5]").samples.size(), 1U);
  expect_refused("[1]\n[6]", "calib.jsonl, line 2: entry 0 of the list must be an id from 0 to 5");
  expect_refused("{\"text\": \"abc\"}",
                 "line 1: the tokenizer gives the id 6, but the model has 6");
}

TEST_F(DatasetTest, RefusesEmptySetsAndParquet) {
  expect_refused("", "no sample in 'calib.jsonl' (0 empty ones were dropped)");
  expect_refused("\n{\"text\": \"\"}\n",
                 "(1 empty ones were dropped): choose other data with --calib");
  expect_error<InputError>([&] { load({}); }, "--calib");
  expect_error<InputError>([&] { load({"a.parquet"}); }, "Parquet is not supported yet");
  expect_error<InputError>([&] { load({folder_.path() / "absent.jsonl"}); }, "absent.jsonl");
}

TEST_F(DatasetTest, PlainTextIsUtf8) {
  const fs::path file = folder_.write("a.txt", "ab\nab\n\xE2\x82");
  expect_error<InputError>([&] { load({file}); },
                           file.string() + ", line 3: not valid UTF-8 at byte 6");
}

TEST_F(DatasetTest, FingerprintIsThatOfTheIds) {
  const std::string sum = fingerprint(parse("[1, 2]\n[3]"));
  EXPECT_EQ(sum.size(), 64U);
  EXPECT_EQ(sum, fingerprint(parse("\n{\"input_ids\": [1, 2]}\n[3]")));
  EXPECT_NE(sum, fingerprint(parse("[1]\n[2, 3]")));
  EXPECT_NE(sum, fingerprint(parse("[3]\n[1, 2]")));
  EXPECT_NE(sum, fingerprint(parse("[1, 2, 3]")));
}

}  // namespace
}  // namespace halftone
