// Sound to log-mel frames. tests/data/speech/chirp.wav is half a second of a chirp with noise and a
// silent gap; log_mel.safetensors holds what WhisperFeatureExtractor of transformers 5.17 gives for
// it (extractor(samples, sampling_rate=16000, max_length=frames * 160)): features_<mel bins> of 64
// frames, cut_80 of 40 frames, and mean_of_30s, the mean over 80 bins of the first 64 of 3000.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/log.h"
#include "io/wav.h"
#include "model/encoder_data.h"
#include "model/family.h"
#include "model/log_mel.h"
#include "model/resample.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

class SpeechTest : public testing::Test {
 protected:
  static fs::path chirp_file() { return data_folder() / "speech" / "chirp.wav"; }

  at::Tensor golden(const std::string& name) const { return tensor_of(golden_, name); }

  // The Whisper fixture with what a test changes.
  Checkpoint checkpoint(const Json& changes, const std::string& preprocessor = "") const {
    Json config = read_json_file(data_folder() / "archs" / "whisper" / "config.json");
    config.update(changes);
    write_text_file(folder_.path() / "config.json", config.dump());
    if (!preprocessor.empty()) folder_.write("preprocessor_config.json", preprocessor);
    fs::copy_file(data_folder() / "archs" / "whisper" / "model.safetensors",
                  folder_.path() / "model.safetensors", fs::copy_options::overwrite_existing);
    return Checkpoint(folder_.path());
  }

  TemporaryFolder folder_;
  SafetensorsFile golden_{data_folder() / "speech" / "log_mel.safetensors"};
};

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST_F(SpeechTest, LogMelFrames) {
  const Sound sound = read_wav(chirp_file());
  for (const int64_t mel_bins : {20, 80, 128}) {
    LogMelOptions options;
    options.mel_bins = mel_bins;
    options.frames = 64;
    const at::Tensor features = LogMel(options).features(sound.samples);
    const at::Tensor expected = golden(concat("features_", mel_bins));
    ASSERT_EQ(features.sizes(), expected.sizes());
    const double error = largest_difference(features, expected);
    RecordProperty(concat("bins_", mel_bins), concat(error));
    EXPECT_LE(error, 1e-5) << mel_bins << " bins";
  }
}

TEST_F(SpeechTest, CutAndPadded) {
  const Sound sound = read_wav(chirp_file());
  LogMelOptions options;
  options.frames = 40;
  EXPECT_LE(largest_difference(LogMel(options).features(sound.samples), golden("cut_80")), 1e-5);
  const at::Tensor whole = LogMel({}).features(sound.samples);
  ASSERT_EQ(whole.sizes(), at::IntArrayRef({80, 3000}));
  EXPECT_LE(largest_difference(whole.mean(0).slice(0, 0, 64), golden("mean_of_30s")), 1e-5);
  // Silence alone: the floor of 1e-10.
  EXPECT_TRUE(at::all(LogMel(options).features({}) == -1.5).item<bool>());
}

// A tone keeps its frequency, its phase and its loudness.
TEST(ResampleTest, TonesStayWhatTheyAre) {
  const auto tone = [](int64_t rate, int64_t count) {
    std::vector<float> samples;
    for (int64_t i = 0; i < count; ++i) {
      const double time = static_cast<double>(i) / static_cast<double>(rate);
      samples.push_back(
          static_cast<float>(0.3 + 0.5 * std::sin(2.0 * std::numbers::pi * 440.0 * time)));
    }
    return samples;
  };
  for (const int64_t rate : {8000, 22050, 44100, 44101, 48000, 96000}) {
    const std::vector<float> out = resample(tone(rate, rate / 2), rate, 16000, 7000);
    const std::vector<float> expected = tone(16000, 7000);
    ASSERT_EQ(out.size(), expected.size());
    // Behind the reach of the silence before it.
    for (size_t i = 200; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], expected[i], 1e-4) << "rate " << rate << ", sample " << i;
    }
  }
}

TEST(ResampleTest, WhatTheLowerRateCannotHoldIsGone) {
  std::vector<float> samples;
  for (int64_t i = 0; i < 24000; ++i) {
    samples.push_back(
        static_cast<float>(std::sin(2.0 * std::numbers::pi * 12000.0 / 48000.0 * double(i))));
  }
  const std::vector<float> out = resample(samples, 48000, 16000, 8000);
  ASSERT_EQ(out.size(), 8000U);
  for (size_t i = 200; i + 200 < out.size(); ++i) ASSERT_NEAR(out[i], 0.0F, 1e-4) << i;
}

TEST(ResampleTest, Lengths) {
  EXPECT_TRUE(resample({}, 44100, 16000, 100).empty());
  EXPECT_EQ(resample(std::vector<float>(441, 0.5F), 44100, 16000, 1000).size(), 160U);
  EXPECT_EQ(resample(std::vector<float>(442, 0.5F), 44100, 16000, 1000).size(), 161U);
  EXPECT_EQ(resample(std::vector<float>(441, 0.5F), 44100, 16000, 7).size(), 7U);
}

TEST_F(SpeechTest, OptionsOfACheckpoint) {
  const LogMelOptions options = log_mel_options(checkpoint(Json::object()));
  EXPECT_EQ(options.mel_bins, 20);
  EXPECT_EQ(options.frames, 64);
  EXPECT_EQ(options.samples(), 10240);
  folder_.write("processor_config.json", R"({"feature_extractor": {"hop_length": 100}})");
  EXPECT_EQ(log_mel_options(checkpoint(Json::object())).hop, 100);
  EXPECT_EQ(log_mel_options(checkpoint(Json::object(), R"({"hop_length": 80, "n_fft": 200,
                                               "sampling_rate": 8000})"))
                .hop,
            80);
  expect_error<InputError>(
      [&] { log_mel_options(checkpoint(Json::object(), R"({"feature_size": 80})")); },
      "preprocessor_config.json: feature_size (80) contradicts num_mel_bins of config.json (20)");
  expect_error<InputError>(
      [&] { log_mel_options(checkpoint(Json::object(), R"({"hop_length": 0})")); },
      "'hop_length' must be 1 to");
  expect_error<InputError>(
      [&] { log_mel_options(checkpoint(Json::object(), R"({"n_fft": 100000})")); },
      "n_fft (100000) do not suit the encoder's 64 frames");
}

TEST_F(SpeechTest, BatchesOfWavFilesGetTheirFeatures) {
  const Checkpoint source = checkpoint(Json::object());
  const Sound sound = read_wav(chirp_file());
  Sample sample{{}, "chirp.wav", {3}, chirp_file()};
  std::vector<Batch> batches = make_batches({sample, sample}, 2, 0, PadSide::kLeft, true);
  add_features(batches, source);
  const EncoderBatch& encoder = *batches.at(0).encoder;
  EXPECT_EQ(encoder.channels, 20);
  EXPECT_EQ(encoder.length, 64);
  ASSERT_EQ(encoder.features.size(), 2U * 20 * 64);
  const at::Tensor features = at::tensor(encoder.features, at::kFloat).view({2, 20, 64});
  EXPECT_LE(largest_difference(features[0], golden("features_20")), 1e-5);
  EXPECT_TRUE(at::equal(features[0], features[1]));
  // Batches of ids are let be.
  std::vector<Batch> ids = make_batches({Sample{{1, 2}, "", {0}}}, 1, 0, PadSide::kLeft, true);
  add_features(ids, source);
  EXPECT_TRUE(ids.at(0).encoder->features.empty());
}

TEST_F(SpeechTest, DecoderOptionsOfACheckpoint) {
  const auto options = [&](const Json& changes) {
    const Checkpoint source = checkpoint(changes);
    return decoder_options(source, *make_model(source));
  };
  EXPECT_EQ(options(Json::object()).value().start, 3);
  EXPECT_TRUE(options(Json::object()).value().audio);
  EXPECT_EQ(options({{"decoder_start_token_id", nullptr}}).value().start, 2) << "pad_token_id";
  folder_.write("generation_config.json", R"({"decoder_start_token_id": 9})");
  EXPECT_EQ(options({{"decoder_start_token_id", nullptr}}).value().start, 9);
  EXPECT_EQ(options(Json::object()).value().start, 3);
  fs::remove(folder_.path() / "generation_config.json");
  expect_error<InputError>(
      [&] {
        options({{"decoder_start_token_id", nullptr}, {"pad_token_id", nullptr}});
      },
      "'decoder_start_token_id' is missing");
  expect_error<InputError>(
      [&] {
        options({{"decoder_start_token_id", 256}});
      },
      "decoder_start_token_id is 256, but the model has ids 0 to 255");
  const Checkpoint text(data_folder() / "archs" / "t5-v1.0");
  EXPECT_FALSE(decoder_options(text, *make_model(text)).value().audio);
  const Checkpoint decoder_only(data_folder() / "archs" / "llama-3.1");
  EXPECT_FALSE(decoder_options(decoder_only, *make_model(decoder_only)).has_value());
}

}  // namespace
}  // namespace halftone::test
