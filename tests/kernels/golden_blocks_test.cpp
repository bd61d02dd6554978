#include <gtest/gtest.h>

#include "kernels/amax.h"
#include "kernels/numeric_types.h"
#include "kernels/nvfp4.h"
#include "tests/kernels/block_operations.h"

// The worked examples of formats-and-hf-export.md, section 8, for static NVFP4, MX and NF4, and of
// calibration.md, 15.4.
namespace halftone {
namespace {

using testing::from_hex;
using testing::Matrix;
using testing::matrix_of_hex;
using testing::to_hex;

const Context kCpu{};

struct Codes {
  std::string weight;
  std::string scales;
};

struct StaticWeight {
  std::vector<uint8_t> packed;
  std::vector<uint8_t> block_scales;
  float scale_2;
};

StaticWeight static_nvfp4(const Matrix& w, const std::vector<float>& block_amax, float global_amax,
                          float m) {
  StaticWeight result{std::vector<uint8_t>(static_cast<size_t>(w.count() / 2)),
                      std::vector<uint8_t>(block_amax.size()), global_amax / (6.0f * m)};
  static_nvfp4_scales(kCpu, block_amax.data(), static_cast<int64_t>(block_amax.size()), global_amax,
                      m, Numerics::kCpu, result.block_scales.data());
  quantize_nvfp4_with_scales(kCpu, w.view(), 16, result.block_scales.data(), result.scale_2,
                             result.packed.data());
  return result;
}

std::vector<float> block_amaxes(const Matrix& w) {
  std::vector<float> amax(static_cast<size_t>(w.count() / 16));
  amax_of_blocks(kCpu, w.view(), 16, amax.data());
  return amax;
}

Codes mxfp4(const Matrix& w) {
  std::vector<uint8_t> packed(static_cast<size_t>(w.count() / 2));
  std::vector<uint8_t> scales(static_cast<size_t>(w.count() / 32));
  quantize_mxfp4(kCpu, w.view(), packed.data(), scales.data());
  return {to_hex(packed), to_hex(scales)};
}

Codes mxfp8(const Matrix& w) {
  std::vector<uint8_t> codes(static_cast<size_t>(w.count()));
  std::vector<uint8_t> scales(static_cast<size_t>(w.count() / 32));
  quantize_mxfp8(kCpu, w.view(), codes.data(), scales.data());
  return {to_hex(codes), to_hex(scales)};
}

Matrix example_w() {  // 8.1
  return matrix_of_hex(DType::kBF16, 2, 32,
                       "f8bfc03ea8bf803f30bf008080bde0bf103f90bf983f00bfe83f003ec8bf403f"
                       "70bfb03fa0be0040a03eb0bf703f40bfc83f00bee8bf003f98bf903f10bfe03f"
                       "b03ea0bd003fa03db0be703e40bec83e00bde8be003e98be903e10bee03e803c"
                       "000000000000000000bb00000000000000000000000000000000000000000000");
}

TEST(GoldenBlocks, StaticNvfp4OfW) {  // 8.1, the amaxes of max calibration
  const Matrix w = example_w();
  const StaticWeight result = static_nvfp4(w, block_amaxes(w), 2.0f, 448.0f);
  EXPECT_EQ(to_hex(result.packed),
            "2f5e0cf8d3b6174e6d7ae2c5963f5e7ba6275e6cf9e3b50700000f0000000000");
  EXPECT_EQ(to_hex(result.block_scales), "7e7e6e2e");
  EXPECT_EQ(to_hex(result.scale_2), "310c433a");
}

TEST(GoldenBlocks, FourOverSixOfW) {  // 8.1, multiplier 1
  const Matrix w = example_w();
  const StaticWeight result = static_nvfp4(w, block_amaxes(w), 2.0f, 256.0f);
  EXPECT_EQ(to_hex(result.packed),
            "2f5e0cf8e4b6174e6d7ae2c5963f5e7ba6275e6cf9e3b50700000f0000000000");
  EXPECT_EQ(to_hex(result.block_scales), "77786828");
  EXPECT_EQ(to_hex(result.scale_2), "abaaaa3a");
}

TEST(GoldenBlocks, MxOfW) {  // 8.1
  const Codes fp8 = mxfp8(example_w());
  EXPECT_EQ(fp8.weight,
            "f864f270eb80d0f669f172e87658f46cef73e27862f36fec74d8f668f271e976"
            "73e27862f36fec74d8f668f271e9765000000000b80000000000000000000000");
  EXPECT_EQ(fp8.scales, "7876");
  const Codes fp4 = mxfp4(example_w());
  EXPECT_EQ(fp4.weight, "1e4d8bd8c2a4063d5c69d1b4852e4c5a95164d5be8c2a4058888888888888888");
  EXPECT_EQ(fp4.scales, "7e7c");
}

TEST(GoldenBlocks, Mxfp4CodeTable) {  // 8.5, scale byte 127: 7 is replaced by 6
  const double inputs[] = {0,    -0.0, .25,   .75,   1.25, 1.75, 2.5, 3.5, 5,   6,        6,
                           -.25, -.75, -1.25, -1.75, -2.5, -3.5, -5,  -6,  -.1, .2500001, .7499999};
  const uint8_t expected[] = {8, 8, 0,  1,  2,  3,  4,  5,  6, 7, 7,
                              8, 9, 10, 11, 12, 13, 14, 15, 8, 1, 1};
  Matrix w(DType::kF32, 1, 32);
  for (int i = 0; i < 22; ++i) w.set(i, inputs[i]);
  std::vector<uint8_t> packed(16);
  uint8_t scale = 0;
  quantize_mxfp4(kCpu, w.view(), packed.data(), &scale);
  EXPECT_EQ(scale, 127);
  for (size_t i = 0; i < 22; ++i) {
    EXPECT_EQ(i % 2 == 0 ? packed[i / 2] & 15 : packed[i / 2] >> 4, expected[i]) << inputs[i];
  }
}

TEST(GoldenBlocks, DegenerateMx) {  // 8.6
  const Matrix zero(DType::kBF16, 2, 32);
  EXPECT_EQ(mxfp8(zero).weight, std::string(128, '0'));
  EXPECT_EQ(mxfp8(zero).scales, "0000");
  EXPECT_EQ(mxfp4(zero).weight, std::string(64, '8'));
  EXPECT_EQ(mxfp4(zero).scales, "0000");

  Matrix w(DType::kBF16, 2, 32);
  for (int i = 0; i < 16; ++i) w.set(i, -3.0 + 6.0 * i / 15.0);
  w.set(32, 1e-6);
  w.set(32 + 16, .001);
  w.set(32 + 20, -0.0);
  EXPECT_EQ(mxfp4(w).weight, "ffeecd9a21546677888888888888888880888888888888888688888888888888");
  EXPECT_EQ(mxfp4(w).scales, "7e73");
  EXPECT_EQ(mxfp8(w).scales, "786d");
}

TEST(GoldenBlocks, Mxfp4ToNvfp4) {  // 8.10: k_max = -7, m = -15
  const std::vector<uint8_t> packed = from_hex(
      "0724415e7b98b5d2ef0c294663809dba 659acf04396ea3d80d4277ace1164b80"
      "00112233001122330011223300112233 00000000000000000000000000000000");
  const std::vector<uint8_t> scales{120, 118, 99, 0};
  Matrix w(DType::kBF16, 2, 64);
  dequantize_mxfp4(kCpu, packed.data(), scales.data(), 2, 64, DType::kBF16, w.bytes.data());
  const std::vector<float> amax{.046875f,   .046875f,   .01171875f, .01171875f,
                                0x1.8p-28f, 0x1.8p-28f, 0.0f,       0.0f};
  const StaticWeight result = static_nvfp4(w, amax, .08203125f, 448.0f);
  EXPECT_EQ(to_hex(result.scale_2), "00000038");
  EXPECT_EQ(to_hex(result.block_scales), "7878686801017e7e");
  EXPECT_EQ(
      to_hex(result.packed),
      "0724415e7b90b5d2ef0c294663009dba659acf04396ea3d00d4277ace1164b00" + std::string(64, '0'));
}

TEST(GoldenBlocks, Nf4OfModelOptimizer) {  // 8.11
  const std::vector<float> table{-1.0f,   -.6962f, -.5251f, -.3949f, -.2844f, -.1848f,
                                 -.0911f, 0.0f,    .0796f,  .1609f,  .2461f,  .3379f,
                                 .4407f,  .5626f,  .7230f,  1.0f};
  Matrix w(DType::kBF16, 2, 64);
  for (int i = 0; i < 64; ++i) {
    w.set(i, (37 * i % 64 - 31) / 16.0);
    w.set(64 + i, (53 * i % 64 - 30) / 8.0);
  }
  std::vector<float> absmax(8);
  std::vector<uint8_t> packed(64);
  quantize_nf4_in_own_type(kCpu, w.view(), 16, table.data(), absmax.data(), packed.data());
  EXPECT_EQ(absmax, (std::vector<float>{1.9375f, 2, 1.9375f, 1.875f, 4, 3.625f, 4.125f, 3.5f}));
  EXPECT_EQ(to_hex(packed),
            "091d3e70a2d4f81b2e5f91c3e60a2d4f71b2e5f91c3e60a1d4f70b2e5f81c2e6"
            "0eb741feb731fda620fda520fd9410ec842feb741fda631fea520fd9520fc841");
}

// What bitsandbytes 0.50.2 gives on the CPU for these weights with blocks of 64.
TEST(GoldenBlocks, Nf4OfBitsandbytes) {
  Matrix w(DType::kBF16, 1, 150);
  for (int i = 0; i < 150; ++i) {
    const float value = static_cast<float>(37 * i % 101 - 50) * 0.3f;
    w.set(i, value / static_cast<float>(1 + i / 64));
  }
  const std::vector<float> table = testing::nf4_table();
  std::vector<float> absmax(3);
  std::vector<uint8_t> packed(75);
  quantize_nf4(kCpu, w.view(), 64, table.data(), absmax.data(), packed.data());
  EXPECT_EQ(to_hex(absmax), "000070410000f0400000a040");
  EXPECT_EQ(to_hex(packed),
            "04c16e29f3b05d17e29f4c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c16d18e3b04c17e29f3b05"
            "d17e2af4c06d18e2a04c16e29f3b05d17e29f4c05d18e2af4c16e19f3b05d17e29");
  Matrix read(DType::kBF16, 1, 150);
  dequantize_nf4(kCpu, packed.data(), absmax.data(), 64, table.data(), 150, DType::kBF16,
                 read.bytes.data());
  EXPECT_EQ(
      to_hex(read.bytes),
      "70c189c0d44027c1afbf2e41fcc01a407041bec0a24070c131c0074127c100002e41fcc01a40704189c0d440"
      "70c131c0074127c1993f2e41fcc06c40704189c0d44027c1afbf2e4127c1993f2e41bec0a24070c131c00741"
      "27c100002e41fcc01a407041bec0a24070c131c0074127c1993f2e41fcc06c40704189c0d44027c12fbf8740"
      "a7c0193fae403ec02240f0c009c05440a7c00000ae407cc09a3ff0403ec02240f0c0b1bf8740a7c00000ae40"
      "7cc0ec3ff04009c05440f0c02fbf8740a7c0193fae407cc0ec3ff0c009c05440a7c02fbfae407cc09a3ff040"
      "3ec02240f0c0b1bf8740a7c00000ae407cc09a3ff04009c05440f0c0b1bf8740a7c0193f674028c09e3fa040"
      "b6bf0d405fc0e9be67405fc04e3fa040fdbfd83fa0c06dbf34405fc00000674028c04e3f");
}

// Section 15's generators.
Matrix searched_w() {
  Matrix w(DType::kF32, 2, 32);
  for (int o = 0; o < 2; ++o) {
    for (int i = 0; i < 32; ++i) w.set(o * 32 + i, ((131 * o + 37 * i) % 127 - 63) / 64.0);
  }
  return w;
}

float generated_x(int t, int i) {
  const int numerator = (53 * t + 29 * i) % 101 - 50;
  return static_cast<float>(numerator) / 32.0f * (i % 16 == 3 ? 16.0f : 1.0f);
}

// H_b of six tokens.
std::vector<float> hessian_of_x() {
  std::vector<float> hessian(2 * 256);
  for (int b = 0; b < 2; ++b) {
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) {
        float sum = 0.0f;
        for (int t = 0; t < 6; ++t) sum += generated_x(t, 16 * b + i) * generated_x(t, 16 * b + j);
        hessian[static_cast<size_t>(256 * b + 16 * i + j)] = sum / 6.0f;
      }
    }
  }
  return hessian;
}

std::vector<float> sweep() {  // 5.1: the positive finite e4m3 values over 448
  std::vector<float> candidates;
  for (uint8_t code = 1; code <= 126; ++code) candidates.push_back(float_of_e4m3(code) / 448.0f);
  return candidates;
}

std::vector<float> search(float m, const std::vector<float>& candidates, bool relative,
                          const float* hessian = nullptr) {
  const Matrix w = searched_w();
  const std::vector<float> block_amax = block_amaxes(w);
  std::vector<float> best(4);
  search_nvfp4_blocks(kCpu, w.view(), block_amax.data(), .984375f, m, candidates.data(),
                      static_cast<int64_t>(candidates.size()), relative, hessian, best.data());
  return best;
}

// The mean squared error of the packed weight.
double mean_error(const std::vector<float>& block_amax, float m) {
  const Matrix w = searched_w();
  const StaticWeight packed = static_nvfp4(w, block_amax, .984375f, m);
  Matrix y(DType::kF32, 2, 32);
  dequantize_nvfp4(kCpu, packed.packed.data(), packed.block_scales.data(), 2, 32, 16,
                   packed.scale_2, DType::kF32, y.bytes.data());
  double sum = 0.0;
  for (int64_t i = 0; i < 64; ++i) sum += (w.at(i) - y.at(i)) * (w.at(i) - y.at(i));
  return sum / 64.0;
}

void expect_near(const std::vector<float>& found, const std::vector<double>& expected) {
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(found[i], expected[i], 2e-7) << i;
}

TEST(GoldenBlocks, MaxOfSearchedW) {  // calibration.md, 15.4
  const std::vector<float> amax = block_amaxes(searched_w());
  EXPECT_EQ(amax, (std::vector<float>{.984375f, .984375f, .921875f, .96875f}));
  EXPECT_NEAR(mean_error(amax, 448.0f), .00355572, 1e-8);
  EXPECT_NEAR(mean_error(amax, 256.0f), .00361267, 1e-8);
}

TEST(GoldenBlocks, SweepOfE4M3Scales) {  // 15.4
  const std::vector<float> candidates = sweep();
  ASSERT_EQ(candidates.size(), 126u);
  EXPECT_NEAR(candidates[0], 4.35965e-6, 1e-11);
  EXPECT_EQ(candidates.back(), 1.0f);
  const std::vector<float> best = search(448.0f, candidates, true);
  expect_near(best, {.9140625, .984375, .84375, .9140625});
  EXPECT_NEAR(mean_error(best, 448.0f), .00265986, 1e-8);
}

TEST(GoldenBlocks, MultipliersOfMse) {  // 15.4, the default grid of 5.1
  std::vector<float> multipliers;
  for (int i = 0; i < 39; ++i) multipliers.push_back(static_cast<float>(0.25 + 3.75 / 38.0 * i));
  expect_near(search(448.0f, multipliers, false), {.92608970, 1.02323198, .86729032, .91138983});
}

TEST(GoldenBlocks, FourOverSix) {  // 15.4
  const std::vector<float> best = search(256.0f, {1.0f, 1.5f}, false);
  expect_near(best, {1.4765625, 1.4765625, 1.3828125, 1.453125});
  EXPECT_NEAR(mean_error(best, 256.0f), .00285737, 1e-8);
}

TEST(GoldenBlocks, LocalHessian) {  // 15.4
  const std::vector<float> hessian = hessian_of_x();
  expect_near(search(448.0f, sweep(), true, hessian.data()), {.7734375, .984375, .84375, .84375});
}

// calibration.md, 3.3 for both block sizes: the scaled operation without a scale in blocks of 16 is
// the one for activations.
TEST(GoldenBlocks, FakeNvfp4InBlocksOf32) {
  Matrix x(DType::kF32, 1, 32);
  for (int i = 0; i < 32; ++i) x.set(i, i < 16 ? 1.0 : 6.0);
  Matrix y(DType::kF32, 1, 32);
  fake_quantize_nvfp4_scaled(kCpu, x.view(), nullptr, 32, 2688.0f, y.bytes.data());
  EXPECT_EQ(y.bytes, x.bytes);  // one step of 1: 1 and 6 are e2m1 values
  x.set(31, 12.0);
  fake_quantize_nvfp4_scaled(kCpu, x.view(), nullptr, 32, 2688.0f, y.bytes.data());
  EXPECT_EQ(y.at(0), 1.0);   // a step of 2: half of it is a value
  EXPECT_EQ(y.at(16), 6.0);  // 3 steps
  EXPECT_EQ(y.at(31), 12.0);
}

}  // namespace
}  // namespace halftone
