#include "model/blocks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

TEST(RmsNorm, EqualsItsFormula) {
  const at::Tensor x = numbers({3, 8}, 1).to(at::kBFloat16);
  const at::Tensor weight = (1.0 + numbers({8}, 2)).to(at::kBFloat16);
  const at::Tensor y = rms_norm(x, weight, 1e-2);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  for (int64_t row = 0; row < 3; ++row) {
    double squares = 0.0;
    for (int64_t i = 0; i < 8; ++i) squares += std::pow(x[row][i].item<double>(), 2);
    for (int64_t i = 0; i < 8; ++i) {
      const double normed = x[row][i].item<double>() / std::sqrt(squares / 8 + 1e-2);
      EXPECT_NEAR(y[row][i].item<double>(), normed * weight[i].item<double>(),
                  0.01 * std::abs(normed));
    }
  }
}

// The frequency of dimension i: at position 1 the angle is the frequency itself.
std::vector<double> frequencies(const RopeConfig& config, int64_t dim) {
  const RopeTable table = make_rope(config, dim, 2, at::kDouble, at::kCPU);
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
  expect({{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 0}}}},
         "'factor' must be positive");
}

// Softmax attention written out, one number after the other.
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const BatchContext& batch, double scale) {
  const int64_t heads = q.size(1);
  const int64_t shared = heads / k.size(1);
  at::Tensor out = at::zeros_like(q);
  for (int64_t b = 0; b < q.size(0); ++b) {
    const TokenRange& real = batch.tokens[static_cast<size_t>(b)];
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t t = real.begin; t < real.end; ++t) {
        double total = 0.0;
        at::Tensor sum = at::zeros({q.size(3)}, at::kDouble);
        for (int64_t key = real.begin; key <= t; ++key) {
          const double score = q[b][h][t].dot(k[b][h / shared][key]).item<double>() * scale;
          total += std::exp(score);
          sum += std::exp(score) * v[b][h / shared][key];
        }
        out[b][h][t].copy_(sum / total);
      }
    }
  }
  return out;
}

TEST(Attention, GroupedQueriesAndPaddingEqualThePlainOne) {
  const at::Tensor q = numbers({2, 4, 5, 6}, 1).to(at::kDouble);
  const at::Tensor k = numbers({2, 2, 5, 6}, 2).to(at::kDouble);
  const at::Tensor v = numbers({2, 2, 5, 6}, 3).to(at::kDouble);
  const BatchContext whole{{{0, 5}, {0, 5}}, 5, false};
  EXPECT_FALSE(attention_mask(whole, at::kCPU).defined());
  EXPECT_LE(relative_error(attention(q, k, v, {}, 0.7), plain_attention(q, k, v, whole, 0.7)),
            1e-6);

  const BatchContext padded{{{2, 5}, {0, 4}}, 5, true};
  const at::Tensor mask = attention_mask(padded, at::kCPU);
  const at::Tensor out = attention(q, k, v, mask, 0.7);
  // Behind right padding a query still sees the row's keys; what it gives is nobody's.
  at::Tensor ours = out.clone();
  ours[1].slice(1, 4).zero_();
  EXPECT_LE(relative_error(ours, plain_attention(q, k, v, padded, 0.7)), 1e-6);
  EXPECT_EQ(out[0].slice(1, 0, 2).abs().max().item<double>(), 0.0) << "padding sees nothing";
}

}  // namespace
}  // namespace halftone::test
