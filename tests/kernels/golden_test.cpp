#include <gtest/gtest.h>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "kernels/int8.h"
#include "kernels/nvfp4.h"
#include "kernels/scale.h"
#include "tests/kernels/support.h"

// The worked examples of formats-and-hf-export.md, section 8, and calibration.md, 3.10.
namespace halftone {
namespace {

using testing::from_hex;
using testing::Matrix;
using testing::matrix_of_hex;
using testing::to_hex;

const Context kCpu{};

float amax(const Matrix& matrix) {
  return amax_of_tensor(kCpu, matrix.view()).value;
}

std::string fp8_hex(const Matrix& w, float scale, Numerics numerics) {
  std::vector<uint8_t> codes(static_cast<size_t>(w.count()));
  quantize_fp8(kCpu, w.view(), scale, numerics, codes.data());
  return to_hex(codes);
}

std::string int8_hex(const Matrix& w, const std::vector<float>& scales) {
  std::vector<int8_t> codes(static_cast<size_t>(w.count()));
  quantize_int8_rows(kCpu, w.view(), scales.data(), codes.data());
  return to_hex(codes);
}

std::vector<float> int8_scales(const Matrix& w) {
  std::vector<float> scales(static_cast<size_t>(w.rows));
  amax_of_rows(kCpu, w.view(), scales.data());
  for (float& scale : scales) scale = divide_by_constant(scale, kMaxInt8, Numerics::kCpu);
  return scales;
}

struct Nvfp4 {
  std::string packed;
  std::string scales;
};

Nvfp4 nvfp4_hex(const Matrix& w, int block, float scale_2) {
  std::vector<uint8_t> packed(static_cast<size_t>(w.count() / 2));
  std::vector<uint8_t> scales(static_cast<size_t>(w.count() / block));
  quantize_nvfp4(kCpu, w.view(), block, scale_2, packed.data(), scales.data());
  return {to_hex(packed), to_hex(scales)};
}

Matrix matrix_w() {
  Matrix w(DType::kBF16, 2, 32);
  for (int r = 0; r < 2; ++r) {
    for (int c = 0; c < 32; ++c) {
      w.set(r * 32 + c, ((37 * c + 53 * r) % 64 - 31) / (r == 0 ? 16.0 : 64.0));
    }
  }
  for (int c = 16; c < 32; ++c) w.set(32 + c, 0.0);
  w.set(32 + 20, -0x1p-9);
  w.set(5, -0.0);
  return w;
}

Matrix matrix_v() {
  return matrix_of_hex(DType::kBF16, 2, 16,
                       "cd3d4dbe9a3e333f66bf8d3fa63fdabf553c4d3da9be1c3f453f81bfbf3fd83f"
                       "4dbdcd3d1abeb3bee63e0dbf26bf5a3fd5bbcdbc293e9cbec5be013f3fbf58bf");
}

TEST(Golden, MatrixW) {  // 8.1
  EXPECT_EQ(to_hex(matrix_w().bytes),
            "f8bfc03ea8bf803f30bf008080bde0bf103f90bf983f00bfe83f003ec8bf403f"
            "70bfb03fa0be0040a03eb0bf703f40bfc83f00bee8bf003f98bf903f10bfe03f"
            "b03ea0bd003fa03db0be703e40bec83e00bde8be003e98be903e10bee03e803c"
            "000000000000000000bb00000000000000000000000000000000000000000000");
}

TEST(Golden, Fp8OfW) {  // 8.1
  const Matrix w = matrix_w();
  const float scale = divide_by_constant(amax(w), kMaxE4M3, Numerics::kCpu);
  EXPECT_EQ(to_hex(scale), "2549923b");
  for (const Numerics numerics : {Numerics::kCpu, Numerics::kCuda}) {
    const float of_profile = divide_by_constant(amax(w), kMaxE4M3, numerics);
    EXPECT_EQ(to_hex(of_profile), "2549923b");
  }
  EXPECT_EQ(fp8_hex(w, scale, Numerics::kCpu),
            "fe6af976f280d6fc70f878ee7d5efb72f57ae97e69fa75f27bdefd6ef878f07c"
            "6ad96e59ea65e26bceed5ee868e06c4600000000ae0000000000000000000000");
}

TEST(Golden, InputScalesOfX) {  // 8.1, amax 2.25
  EXPECT_EQ(to_hex(divide_by_constant(2.25f, kMaxE4M3, Numerics::kCpu)), "4992a43b");
  EXPECT_EQ(to_hex(divide_by_constant(2.25f, kMaxE4M3, Numerics::kCuda)), "4a92a43b");
  EXPECT_EQ(to_hex(divide_by_constant(2.25f, kMaxInt8, Numerics::kCpu)), "4522913c");
  EXPECT_EQ(to_hex(divide_by_constant(2.25f, kMaxNvfp4, Numerics::kCpu)), "b76d5b3a");
}

TEST(Golden, ReciprocalsOfTheCudaProfile) {  // 2.1
  EXPECT_EQ(to_hex(divide_by_constant(1.0f, kMaxE4M3, Numerics::kCuda)), "2549123b");
  EXPECT_EQ(to_hex(divide_by_constant(1.0f, kMaxNvfp4, Numerics::kCuda)), "310cc339");
  EXPECT_EQ(to_hex(divide_by_constant(1.0f, kMaxInt8, Numerics::kCuda)), "0402013c");
  EXPECT_EQ(to_hex(divide_by_constant(1.0f, kMaxE2M1, Numerics::kCuda)), "abaa2a3e");
}

TEST(Golden, Int8OfW) {  // 8.1
  const Matrix w = matrix_w();
  const std::vector<float> scales = int8_scales(w);
  EXPECT_EQ(to_hex(scales), "0402813c0402813b");
  EXPECT_EQ(int8_hex(w, scales),
            "8518ad40d400fc9124b94be073089d30c457ec7f14a93cd063f88d20b547dc6f"
            "57ec7f14a93cd063f88d20b547dc6f0400000000000000000000000000000000");
}

TEST(Golden, Nvfp4OfW) {  // 8.1
  const Matrix w = matrix_w();
  const float scale_2 = divide_by_constant(amax(w), kMaxNvfp4, Numerics::kCpu);
  EXPECT_EQ(to_hex(scale_2), "310c433a");
  const Nvfp4 result = nvfp4_hex(w, 16, scale_2);
  EXPECT_EQ(result.packed, "2f5e0cf8d3b6174e6d7ae2c5963f5e7ba6275e6cf9e3b50700000f0000000000");
  EXPECT_EQ(result.scales, "7e7e6e2e");
}

TEST(Golden, Nvfp4OfWInBlocksOf32) {  // 8.1, w4a8_nvfp4_fp8: scale_2 = amax / 448
  const Matrix w = matrix_w();
  const Nvfp4 result = nvfp4_hex(w, 32, divide_by_constant(amax(w), kMaxE4M3, Numerics::kCpu));
  EXPECT_EQ(result.packed, "2f5e0cf8d3b6174e6d7ae2c5963f5e7ba6275e6cf9e3b5070000080000000000");
  EXPECT_EQ(result.scales, "6959");
}

TEST(Golden, MatrixV) {  // 8.2
  const Matrix v = matrix_v();
  const std::string fp8 = "5de56a74f7797bfe4655eb7275f87c7ed55de2ec6ff1f376becd63eaed70f4f6";
  const float cpu_scale = divide_by_constant(amax(v), kMaxE4M3, Numerics::kCpu);
  EXPECT_EQ(to_hex(cpu_scale), "9224793b");
  EXPECT_EQ(fp8_hex(v, cpu_scale, Numerics::kCpu), fp8);
  const float cuda_scale = divide_by_constant(amax(v), kMaxE4M3, Numerics::kCuda);
  EXPECT_EQ(to_hex(cuda_scale), "9324793b");
  EXPECT_EQ(fp8_hex(v, cuda_scale, Numerics::kCuda), fp8);

  const std::vector<float> scales = int8_scales(v);
  EXPECT_EQ(to_hex(scales), "6fb75b3c6fb7db3b");
  EXPECT_EQ(int8_hex(v, scales),
            "07f11634bd5261810104e72d39b56f7ef90feacc43ae9f7ffffc19d3c74b9182");

  const float scale_2 = divide_by_constant(amax(v), kMaxNvfp4, Numerics::kCpu);
  EXPECT_EQ(to_hex(scale_2), "6218263a");
  const Nvfp4 nvfp4 = nvfp4_hex(v, 16, scale_2);
  EXPECT_EQ(nvfp4.packed, "91426df6004ae57719cae57e88c26dff");
  EXPECT_EQ(nvfp4.scales, "7e76");
}

TEST(Golden, Fp8DoubleRoundingInBothProfiles) {  // 8.3
  const Matrix w = matrix_of_hex(
      DType::kBF16, 1, 16, "27bde4bc29bd85bd22bc45bdd2bc073e19bd4e3d52bcc33c08bd95bc95bd4cbc");
  for (const Numerics numerics : {Numerics::kCpu, Numerics::kCuda}) {
    const float scale = divide_by_constant(amax(w), kMaxE4M3, numerics);
    EXPECT_EQ(to_hex(scale), "25499a39");
    EXPECT_EQ(fp8_hex(w, scale, numerics), numerics == Numerics::kCpu
                                               ? "f1ecf1f6e0f2eb7ef073e36aeee7f7e3"
                                               : "f1ecf1f6e0f2eb7ef073e36aeee8f8e3");
  }
}

TEST(Golden, DegenerateZeroTensor) {  // 8.6, with a positive scale as 2.3 and 2.9 ask for
  const Matrix zero(DType::kBF16, 2, 32);
  EXPECT_EQ(amax(zero), 0.0f);
  EXPECT_EQ(fp8_hex(zero, 1.0f, Numerics::kCpu), std::string(128, '0'));
  EXPECT_EQ(int8_hex(zero, {1.0f, 1.0f}), std::string(128, '0'));
  const Nvfp4 nvfp4 = nvfp4_hex(zero, 16, 1.0f / 2688.0f);
  EXPECT_EQ(nvfp4.packed, std::string(64, '0'));
  EXPECT_EQ(nvfp4.scales, "38383838");
}

TEST(Golden, DegenerateTinyBlocks) {  // 8.6
  Matrix w(DType::kBF16, 2, 32);
  for (int i = 0; i < 16; ++i) w.set(i, -3.0 + 6.0 * i / 15.0);
  w.set(32, 1e-6);
  w.set(32 + 16, .001);
  w.set(32 + 20, -0.0);
  EXPECT_EQ(to_hex(divide_by_constant(amax(w), kMaxE4M3, Numerics::kCpu)), "b76ddb3b");
  const float scale_2 = divide_by_constant(amax(w), kMaxNvfp4, Numerics::kCpu);
  EXPECT_EQ(to_hex(scale_2), "2549923a");
  const Nvfp4 result = nvfp4_hex(w, 16, scale_2);
  EXPECT_EQ(result.packed, "ffeecd9a21546677000000000000000001000000000000000700000000000000");
  EXPECT_EQ(result.scales, "7e380122");
}

Matrix row_of(const std::vector<double>& values) {
  Matrix x(DType::kF32, 1, static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) x.set(static_cast<int64_t>(i), values[i]);
  return x;
}

TEST(Golden, FakeFp8OfAmaxZero) {  // calibration.md, 3.10
  const Matrix x = row_of({.01, 500, .001});
  Matrix y(DType::kF32, 1, 3);
  fake_quantize_fp8(kCpu, x.view(), 0.0f, y.bytes.data());
  EXPECT_NEAR(y.at(0), .0100446, 1e-7);
  EXPECT_EQ(y.at(1), 1.0);
  EXPECT_NEAR(y.at(2), .0009766, 1e-7);
}

TEST(Golden, FakeNvfp4) {  // calibration.md, 3.10
  const Matrix cast = row_of({1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4});
  Matrix y(DType::kF32, 1, 16);
  fake_quantize_nvfp4(kCpu, cast.view(), 448.0f, y.bytes.data());
  for (int i = 0; i < 16; i += 4) {
    EXPECT_EQ(y.at(i), 1.0);
    EXPECT_EQ(y.at(i + 1), 2.0);
    EXPECT_NEAR(y.at(i + 2), 2.6666667, 1e-6);
    EXPECT_EQ(y.at(i + 3), 4.0);
  }

  Matrix x(DType::kF32, 1, 32);
  for (int i = 0; i < 16; ++i) {
    x.set(i, 0.1 * i - 0.8);
    x.set(16 + i, 0.01 * i);
  }
  const double expected[32] = {-.8,      -.8,      -.53333,  -.53333,  -.4,      -.26667,  -.2,
                               -.13333,  0,        .13333,   .2,       .26667,   .4,       .53333,
                               .53333,   .8,       0,        .0119048, .0238095, .0357143, .0357143,
                               .0476190, .0714286, .0714286, .0714286, .0952381, .0952381, .0952381,
                               .1428572, .1428572, .1428572, .1428572};
  Matrix result(DType::kF32, 1, 32);
  fake_quantize_nvfp4(kCpu, x.view(), 0.8f, result.bytes.data());
  for (int i = 0; i < 32; ++i) EXPECT_NEAR(result.at(i), expected[i], 6e-6) << i;
}

}  // namespace
}  // namespace halftone
