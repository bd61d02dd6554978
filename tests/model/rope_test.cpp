#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

// The frequency of dimension i: at position 1 the angle is the frequency itself.
std::vector<double> frequencies(const RopeConfig& config, int64_t dim, bool beyond = false) {
  const RopeTable table = make_rope(config, dim, 2, at::kDouble, at::kCPU, beyond);
  std::vector<double> values;
  for (int64_t i = 0; i < dim / 2; ++i) {
    EXPECT_EQ(table.sin_TD[1][i].item<double>(), table.sin_TD[1][i + dim / 2].item<double>());
    values.push_back(
        std::atan2(table.sin_TD[1][i].item<double>(), table.cos_TD[1][i].item<double>()));
  }
  return values;
}

TEST(Rope, DefaultAndLinear) {
  RopeConfig config;
  config.theta = 500.0;
  const std::vector<double> plain = frequencies(config, 8);
  config.kind = RopeConfig::Kind::kLinear;
  config.factor = 4.0;
  const std::vector<double> linear = frequencies(config, 8);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(plain[i], std::pow(500.0, -static_cast<double>(i) / 4), 1e-6);
    EXPECT_NEAR(linear[i], plain[i] / 4, 1e-6);
  }
}

TEST(Rope, Llama3Bands) {
  RopeConfig config;
  config.kind = RopeConfig::Kind::kLlama3;
  config.theta = 10000.0;
  config.factor = 8.0;
  config.low_freq_factor = 1.0;
  config.high_freq_factor = 4.0;
  config.original_max_positions = 64.0;
  const std::vector<double> scaled = frequencies(config, 16);
  int bands[3] = {0, 0, 0};
  for (size_t i = 0; i < scaled.size(); ++i) {
    const double f = std::pow(10000.0, -static_cast<double>(i) / 8);
    const double wavelength = 2 * M_PI / f;
    double expected = f;
    int band = 0;
    if (wavelength > 64.0 / 1.0) {
      expected = f / 8;
      band = 2;
    } else if (wavelength > 64.0 / 4.0) {
      const double s = (64.0 / wavelength - 1.0) / (4.0 - 1.0);
      expected = (1 - s) * f / 8 + s * f;
      band = 1;
    }
    ++bands[band];
    EXPECT_NEAR(scaled[i], expected, 1e-6 * f) << i;
  }
  EXPECT_GT(bands[0] * bands[1] * bands[2], 0) << "every band must be met";
}

TEST(Rope, Llama3WithoutMiddleBand) {
  RopeConfig config;
  config.kind = RopeConfig::Kind::kLlama3;
  config.theta = 10000.0;
  config.factor = 8.0;
  config.low_freq_factor = config.high_freq_factor = 1.0;
  // The wavelength of frequency 1 lies on the border itself.
  config.original_max_positions = static_cast<double>(static_cast<float>(2 * M_PI));
  for (const double frequency : frequencies(config, 16)) EXPECT_TRUE(std::isfinite(frequency));
}

TEST(Rope, RotatesHalves) {
  RopeConfig config;
  const RopeTable table = make_rope(config, 4, 3, at::kDouble, at::kCPU);
  const at::Tensor x = numbers({1, 1, 3, 4}, 3).to(at::kDouble);
  const at::Tensor y = apply_rope(x, table);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t i = 0; i < 2; ++i) {
      const double angle = static_cast<double>(t) * std::pow(10000.0, -static_cast<double>(i) / 2);
      const double a = x[0][0][t][i].item<double>();
      const double b = x[0][0][t][i + 2].item<double>();
      EXPECT_NEAR(y[0][0][t][i].item<double>(), a * std::cos(angle) - b * std::sin(angle), 1e-6);
      EXPECT_NEAR(y[0][0][t][i + 2].item<double>(), b * std::cos(angle) + a * std::sin(angle),
                  1e-6);
    }
  }
}

void expect_near(const std::vector<double>& ours, const std::vector<double>& theirs) {
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], theirs[i], 1e-6 * theirs[i]) << i;
}

// Frequencies and multipliers below are transformers 5.17's.

TEST(Rope, Llama3OfTransformers) {
  const Json scaling{{"rope_type", "llama3"},
                     {"factor", 8.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 64}};
  expect_near(frequencies(read_rope({{"rope_scaling", scaling}}, "c"), 16),
              {1.0, 0.244384587, 0.0130422562, 0.00395284733, 0.00124999997, 0.000395284733,
               0.000125000006, 3.95284733e-05});
}

TEST(Rope, Yarn) {
  Json scaling{{"rope_type", "yarn"},
               {"factor", 8.0},
               {"beta_fast", 16},
               {"beta_slow", 2},
               {"original_max_position_embeddings", 64}};
  RopeConfig rope = read_rope({{"rope_scaling", scaling}}, "c");
  EXPECT_NEAR(rope.multiplier, 1.2079441541679836, 1e-12);
  expect_near(frequencies(rope, 16), {1.0, 0.177878112, 0.0125000002, 0.00395284733, 0.00124999997,
                                      0.000395284733, 0.000125000006, 3.95284733e-05});
  scaling["truncate"] = false;
  rope = read_rope({{"rope_scaling", scaling}}, "c");
  EXPECT_NEAR(frequencies(rope, 16)[1], 0.120533988, 1e-7);
  scaling["attention_factor"] = 1.5;
  EXPECT_EQ(read_rope({{"rope_scaling", scaling}}, "c").multiplier, 1.5);
}

TEST(Rope, YarnWithScalesOfScores) {
  const Json scaling{{"type", "yarn"},
                     {"factor", 40},
                     {"mscale", 1.0},
                     {"mscale_all_dim", 0.8},
                     {"original_max_position_embeddings", 4096}};
  const RopeConfig rope = read_rope({{"rope_scaling", scaling}}, "c");
  EXPECT_NEAR(rope.multiplier, 1.0569662567531275, 1e-12);
  expect_near(frequencies(rope, 16), {1.0, 0.316227764, 0.100000001, 0.0239147246, 0.00512499968,
                                      0.000849862176, 2.49999994e-05, 7.90569447e-06});
}

Json longrope_config() {
  return {{"max_position_embeddings", 4096},
          {"rope_scaling",
           {{"type", "su"},
            {"short_factor", {1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0}},
            {"long_factor", {1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0}},
            {"original_max_position_embeddings", 512}}}};
}

TEST(Rope, LongRopeWithinAndBeyondItsLength) {
  const RopeConfig rope = read_rope(longrope_config(), "c");
  EXPECT_NEAR(rope.multiplier, 1.1547005383792515, 1e-12);
  EXPECT_EQ(rope.long_multiplier, rope.multiplier);
  expect_near(frequencies(rope, 16), {1.0, 0.287479758, 0.0833333358, 0.0210818499, 0.00499999989,
                                      0.00105409266, 0.000250000012, 6.32455558e-05});
  expect_near(frequencies(rope, 16, /*beyond=*/true),
              {1.0, 0.158113882, 0.0333333351, 0.00790569466, 0.00166666671, 0.000395284733,
               8.33333324e-05, 1.97642366e-05});
  // The length of the batch decides, whatever the tables were made for.
  Rope tables(rope, 16, RopeLayout::kHalves);
  tables.prepare(600, at::kDouble, at::kCPU);
  for (const int64_t length : {512, 513}) {
    const at::Tensor x = numbers({1, 2, length, 16}, 7).to(at::kDouble);
    const RopeTable expected =
        make_rope(rope, 16, length, at::kDouble, at::kCPU, /*beyond=*/length > 512);
    BatchContext batch;
    batch.length = length;
    EXPECT_TRUE(at::equal(tables.apply(x, batch), apply_rope(x, expected))) << length;
  }
}

TEST(Rope, LongRopeWithMultipliersOfItsOwn) {
  Json config = longrope_config();
  config["rope_scaling"]["short_mscale"] = 1.25;
  config["rope_scaling"]["long_mscale"] = 1.5;
  const RopeConfig rope = read_rope(config, "c");
  const RopeTable within = make_rope(rope, 16, 1, at::kDouble, at::kCPU);
  const RopeTable beyond = make_rope(rope, 16, 1, at::kDouble, at::kCPU, /*beyond=*/true);
  EXPECT_EQ(within.cos_TD[0][0].item<double>(), 1.25);
  EXPECT_EQ(beyond.cos_TD[0][0].item<double>(), 1.5);
}

TEST(Rope, RotatesPairs) {
  const RopeTable table = make_rope({}, 4, 3, at::kDouble, at::kCPU);
  const at::Tensor x = numbers({1, 1, 3, 4}, 3).to(at::kDouble);
  const at::Tensor y = apply_rope(x, table, RopeLayout::kPairs);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t i = 0; i < 2; ++i) {
      const double angle = static_cast<double>(t) * std::pow(10000.0, -static_cast<double>(i) / 2);
      const double a = x[0][0][t][2 * i].item<double>();
      const double b = x[0][0][t][2 * i + 1].item<double>();
      EXPECT_NEAR(y[0][0][t][2 * i].item<double>(), a * std::cos(angle) - b * std::sin(angle),
                  1e-6);
      EXPECT_NEAR(y[0][0][t][2 * i + 1].item<double>(), b * std::cos(angle) + a * std::sin(angle),
                  1e-6);
    }
  }
}

TEST(Rope, RestOfAHeadPassesThrough) {
  const RopeTable table = make_rope({}, 4, 3, at::kDouble, at::kCPU);
  const at::Tensor x = numbers({1, 2, 3, 10}, 4).to(at::kDouble);
  for (const RopeLayout layout : {RopeLayout::kHalves, RopeLayout::kPairs}) {
    const at::Tensor y = apply_rope(x, table, layout);
    EXPECT_TRUE(at::equal(y.slice(-1, 4), x.slice(-1, 4)));
    EXPECT_TRUE(
        at::equal(y.slice(-1, 0, 4), apply_rope(x.slice(-1, 0, 4).contiguous(), table, layout)));
  }
}

TEST(ReadRope, BothSpellings) {
  const Json scaling{{"rope_type", "llama3"},
                     {"factor", 32.0},
                     {"low_freq_factor", 1},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 8192}};
  const RopeConfig old = read_rope({{"rope_theta", 5e5}, {"rope_scaling", scaling}}, "c");
  Json parameters = scaling;
  parameters["rope_theta"] = 5e5;
  const RopeConfig v5 = read_rope({{"rope_parameters", parameters}}, "c");
  for (const RopeConfig& rope : {old, v5}) {
    EXPECT_EQ(rope.kind, RopeConfig::Kind::kLlama3);
    EXPECT_EQ(rope.theta, 5e5);
    EXPECT_EQ(rope.factor, 32.0);
    EXPECT_EQ(rope.high_freq_factor, 4.0);
    EXPECT_EQ(rope.original_max_positions, 8192.0);
  }
  EXPECT_EQ(read_rope({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}, "c").kind,
            RopeConfig::Kind::kLinear);
  EXPECT_EQ(read_rope({{"rope_scaling", nullptr}}, "c").kind, RopeConfig::Kind::kDefault);
}

TEST(ReadRope, Errors) {
  const auto expect = [](const Json& config, const std::string& part) {
    expect_error<InputError>([&] { read_rope(config, "config.json"); }, part);
  };
  expect({{"rope_scaling", 3}}, "config.json: 'rope_scaling' must be an object");
  expect({{"rope_theta", "big"}}, "'rope_theta' must be a number");
  expect({{"rope_theta", -1}}, "'rope_theta' must be positive");
  expect({{"rope_scaling", {{"type", "dynamic"}}}}, "rope type 'dynamic' is not supported");
  expect({{"rope_scaling", {{"type", "linear"}}}}, "'factor' is missing");
  expect({{"rope_scaling", {{"rope_type", 5}}}}, "'rope_type' must be a string");
  expect({{"rope_scaling", {{"type", "dynamic"}}}},
         "'rope_scaling'; supported: default, linear, llama3, yarn, longrope, su");
  expect({{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}}},
         "'original_max_position_embeddings' is missing");
  Json longrope = longrope_config();
  longrope["rope_scaling"].erase("long_factor");
  expect(longrope, "'long_factor' is missing");
  longrope["rope_scaling"]["long_factor"] = {1.0, -2.0};
  expect(longrope, "'long_factor' must hold positive numbers");
  longrope["rope_scaling"]["long_factor"] = {1.0, "2"};
  expect(longrope, "'long_factor' must hold numbers");
  expect({{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 0}}}},
         "'factor' must be positive");
}

TEST(ReadRope, RotatingPartOfAHead) {
  RopeConfig rope = read_rope({{"partial_rotary_factor", 0.75}}, "c");
  EXPECT_EQ(rotary_dim(rope, 16, "c"), 12);
  rope = read_rope({{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}, "c", {.partial = 0.25});
  EXPECT_EQ(rotary_dim(rope, 16, "c"), 8);
  EXPECT_EQ(rotary_dim(read_rope(Json::object(), "c", {.partial = 0.25}), 16, "c"), 4);
  const auto expect = [&](double partial, const std::string& part) {
    rope.partial = partial;
    expect_error<InputError>([&] { rotary_dim(rope, 10, "config.json"); }, part);
  };
  expect(0.5, "partial_rotary_factor 0.5 of head_dim 10 gives 5");
  expect(2.0, "config.json: the rotating part");
  expect_error<InputError>([] { rotary_dim(read_rope(longrope_config(), "c"), 32, "config.json"); },
                           "config.json: 'short_factor' must hold 16 numbers");
}

}  // namespace
}  // namespace halftone::test
