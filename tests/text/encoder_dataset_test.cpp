// Samples and batches of models that have an encoder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/tokenizer_fixture.h"
#include "text/batches.h"
#include "text/dataset.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class EncoderDatasetTest : public testing::Test {
 protected:
  EncoderDatasetTest() { options_.decoder = DecoderOptions{9}; }

  Dataset parse(const std::string& text) const {
    return parse_jsonl_dataset(text, "calib.jsonl", tokenizer_.get(), options_);
  }
  Dataset load(const fs::path& file) const {
    return load_dataset({file}, tokenizer_.get(), options_);
  }
  Sample only(const std::string& line) const { return parse(line).samples.at(0); }
  void expect_refused(const std::string& text, const std::string& part) const {
    expect_error<InputError>([&] { parse(text); }, part);
  }

  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = load_from(small_tokenizer(), Json::object());
  DatasetOptions options_;
};

TEST_F(EncoderDatasetTest, IdsOfBothSides) {
  const Sample sample = only(R"({"input_ids": [1, 2], "decoder_input_ids": [9, 3, 4]})");
  EXPECT_THAT(sample.ids, ElementsAre(1, 2));
  EXPECT_THAT(sample.decoder_ids, ElementsAre(9, 3, 4));
  EXPECT_THAT(sample.output_ids(), ElementsAre(9, 3, 4));
  // Taken as they are, whatever they begin with.
  EXPECT_THAT(only(R"({"input_ids": [1], "decoder_input_ids": [3]})").decoder_ids, ElementsAre(3));
  EXPECT_THAT(only(R"({"input_ids": [1], "decoder_input_ids": []})").decoder_ids, ElementsAre(9));
  tokenizer_ = nullptr;
  EXPECT_THAT(only(R"({"input_ids": [1], "text": "ab", "target": "a", "decoder_input_ids": [3]})")
                  .decoder_ids,
              ElementsAre(3));
}

TEST_F(EncoderDatasetTest, TargetsAreShifted) {
  // "cd ab": 7, 4, 5
  const Sample sample = only(R"({"text": "abc", "target": "cd ab"})");
  EXPECT_THAT(sample.ids, ElementsAre(6));
  EXPECT_THAT(sample.decoder_ids, ElementsAre(9, 7, 4));
  EXPECT_THAT(only(R"({"text": "abc", "target": ""})").decoder_ids, ElementsAre(9));
  EXPECT_THAT(only(R"({"input_ids": [1, 2], "target": "cdab"})").decoder_ids, ElementsAre(9, 7));
  options_.decoder->target_field = "summary";
  EXPECT_THAT(only(R"({"text": "abc", "summary": "cdab", "target": "a"})").decoder_ids,
              ElementsAre(9, 7));
}

TEST_F(EncoderDatasetTest, WithoutTargetTheDecoderReadsTheSame) {
  EXPECT_THAT(only("[1, 2, 3]").decoder_ids, ElementsAre(9, 1, 2));
  EXPECT_THAT(only(R"({"input_ids": [1]})").decoder_ids, ElementsAre(9));
  EXPECT_THAT(only(R"({"text": "cd ab", "target": null})").decoder_ids, ElementsAre(9, 7, 4));
  const Sample plain = load(folder_.write("a.txt", "cdab")).samples.at(0);
  EXPECT_THAT(plain.ids, ElementsAre(7, 5));
  EXPECT_THAT(plain.decoder_ids, ElementsAre(9, 7));
}

TEST_F(EncoderDatasetTest, BothSidesAreCutAndChecked) {
  options_.max_length = 2;
  const Sample sample = only(R"({"input_ids": [1, 2, 3], "decoder_input_ids": [4, 5, 6]})");
  EXPECT_THAT(sample.ids, ElementsAre(1, 2));
  EXPECT_THAT(sample.decoder_ids, ElementsAre(4, 5));
  options_.vocabulary = 6;
  expect_refused(R"({"input_ids": [1], "decoder_input_ids": [6]})",
                 "line 1: entry 0 of 'decoder_input_ids' must be an id from 0 to 5");
  expect_refused(R"({"input_ids": [1], "target": "abc"})", "the tokenizer gives the id 6");
  expect_refused(R"({"input_ids": [1], "decoder_input_ids": 6})",
                 "'decoder_input_ids' must be a list of ids, found number");
  expect_refused(R"({"input_ids": [1], "target": 6})", "line 1: 'target' must be a string");
}

TEST_F(EncoderDatasetTest, EmptyEncoderTextsAreDropped) {
  const Dataset data = parse("{\"text\": \"\", \"target\": \"ab\"}\n[1]");
  EXPECT_EQ(data.samples.size(), 1U);
  EXPECT_EQ(data.dropped, 1);
}

TEST_F(EncoderDatasetTest, SoundWithAndWithoutText) {
  options_.decoder->audio = true;
  const fs::path sound = folder_.write("a.wav", "sound");
  const fs::path lines = folder_.write("b.jsonl",
                                       "{\"audio\": \"a.wav\", \"text\": \"cd ab\"}\n"
                                       "{\"audio\": \"a.wav\"}\n"
                                       "{\"audio\": \"a.wav\", \"text\": \"dd\"}\n"
                                       "{\"audio\": \"a.wav\", \"decoder_input_ids\": [4, 5]}\n");
  const Dataset data = load(lines);
  ASSERT_EQ(data.samples.size(), 4U);
  for (const Sample& sample : data.samples) {
    EXPECT_EQ(sample.audio, sound);
    EXPECT_THAT(sample.ids, IsEmpty());
  }
  EXPECT_THAT(data.samples[0].decoder_ids, ElementsAre(9, 7, 4, 5));
  EXPECT_THAT(data.samples[1].decoder_ids, ElementsAre(9));
  EXPECT_THAT(data.samples[3].decoder_ids, ElementsAre(4, 5));

  const Dataset alone = load(sound);
  ASSERT_EQ(alone.samples.size(), 1U);
  EXPECT_EQ(alone.samples[0].audio, sound);
  EXPECT_THAT(alone.samples[0].decoder_ids, ElementsAre(9));
}

// A post-processor that begins with the start id: it does not come twice.
TEST_F(EncoderDatasetTest, TranscriptsMayBeginWithTheStart) {
  options_.decoder = DecoderOptions{7, true};
  folder_.write("a.wav", "sound");
  const fs::path lines = folder_.write("b.jsonl", "{\"audio\": \"a.wav\", \"text\": \"cdab\"}\n");
  EXPECT_THAT(load(lines).samples.at(0).decoder_ids, ElementsAre(7, 5));
}

TEST_F(EncoderDatasetTest, SoundAndTextAreNotMixedUp) {
  const fs::path sound = folder_.write("a.wav", "sound");
  expect_error<InputError>([&] { load(sound); }, "the model reads text, not sound");
  options_.decoder->audio = true;
  expect_error<InputError>([&] { load(folder_.write("a.txt", "ab")); }, "the model hears sound");
  expect_refused("{\"text\": \"ab\"}",
                 "line 1: expected an object whose 'audio' is the path of a WAV file, found none");
  expect_refused("[1]", "found array");
  expect_refused("{\"audio\": 3}", "found number");
  expect_refused("{\"audio\": \"absent.wav\"}", "line 1: 'audio' is no file: 'absent.wav'");
  options_.decoder.reset();
  expect_error<InputError>([&] { load(sound); }, "the model reads text, not sound");
}

TEST_F(EncoderDatasetTest, FingerprintsSeeBothSides) {
  const std::string sum = fingerprint(parse("[1, 2]\n[3]"));
  EXPECT_EQ(sum, fingerprint(parse("{\"input_ids\": [1, 2], \"decoder_input_ids\": [9, 1]}\n[3]")));
  EXPECT_NE(sum, fingerprint(parse("{\"input_ids\": [1, 2], \"decoder_input_ids\": [9, 2]}\n[3]")));
  options_.decoder.reset();
  EXPECT_NE(sum, fingerprint(parse("[1, 2]\n[3]")));
  options_.decoder = DecoderOptions{9, true};
  const auto sound = [&](const std::string& name, const std::string& bytes) {
    return fingerprint(load(folder_.write(name, bytes)));
  };
  EXPECT_EQ(sound("a.wav", "one"), sound("b.wav", "one"));
  EXPECT_NE(sound("a.wav", "one"), sound("a.wav", "two"));
}

TEST_F(EncoderDatasetTest, BatchesPadBothSidesOnTheRight) {
  const Dataset data = parse(
      "{\"input_ids\": [1, 2, 3], \"decoder_input_ids\": [9]}\n"
      "{\"input_ids\": [4], \"decoder_input_ids\": [9, 5]}\n"
      "{\"input_ids\": [6, 7], \"decoder_input_ids\": [9]}");
  const auto own = make_batches(data.samples, 2, 0, PadSide::kLeft, false);
  ASSERT_EQ(own.size(), 2U);
  EXPECT_THAT(own[0].input_ids, ElementsAre(9, 0, 9, 5));
  EXPECT_THAT(own[0].mask, ElementsAre(1, 0, 1, 1));
  ASSERT_TRUE(own[0].encoder);
  EXPECT_EQ(own[0].encoder->length, 3);
  EXPECT_THAT(own[0].encoder->ids, ElementsAre(1, 2, 3, 4, 0, 0));
  EXPECT_THAT(own[0].encoder->mask, ElementsAre(1, 1, 1, 1, 0, 0));
  EXPECT_THAT(own[0].encoder->audio, IsEmpty());
  EXPECT_EQ(own[1].length, 1);
  EXPECT_EQ(own[1].encoder->length, 2);
  const auto common = make_batches(data.samples, 2, 0, PadSide::kLeft, true);
  EXPECT_THAT(common[1].input_ids, ElementsAre(9, 0));
  EXPECT_THAT(common[1].encoder->ids, ElementsAre(6, 7, 0));
}

TEST_F(EncoderDatasetTest, BatchesOfSoundNameTheFiles) {
  const Sample one{{}, "", {9}, "a.wav"};
  const Sample two{{}, "", {9, 1}, "b.wav"};
  const auto batches = make_batches({one, two}, 2, 0, PadSide::kLeft, true);
  ASSERT_EQ(batches.size(), 1U);
  ASSERT_TRUE(batches[0].encoder);
  EXPECT_THAT(batches[0].encoder->audio, ElementsAre(fs::path("a.wav"), fs::path("b.wav")));
  EXPECT_THAT(batches[0].encoder->ids, IsEmpty());
  EXPECT_THAT(batches[0].input_ids, ElementsAre(9, 0, 9, 1));
}

}  // namespace
}  // namespace halftone
