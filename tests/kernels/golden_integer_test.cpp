#include <gtest/gtest.h>

#include <fstream>

#include "kernels/amax.h"
#include "kernels/fp8.h"
#include "kernels/int4.h"
#include "kernels/int8.h"
#include "kernels/mse_search.h"
#include "kernels/numeric_types.h"
#include "kernels/scale.h"
#include "tests/kernels/support.h"

// The worked examples of formats-and-hf-export.md, section 8, and of calibration.md, 3.10 and 15.4,
// for integers and for FP8 by rows and by tiles; and torch's own conversion to FP8.
namespace halftone {
namespace {

using testing::Matrix;
using testing::matrix_of_hex;
using testing::to_hex;

const Context kCpu{};

// export_amax / bound (2.2): an amax of zero counts as `bound`.
std::vector<float> export_scales(std::vector<float> amaxes, float bound) {
  for (float& amax : amaxes) {
    amax = divide_by_constant(amax == 0.0f ? bound : amax, bound, Numerics::kCpu);
  }
  return amaxes;
}

std::vector<float> row_scales(const Matrix& w, float bound) {
  std::vector<float> amaxes(static_cast<size_t>(w.rows));
  amax_of_rows(kCpu, w.view(), amaxes.data());
  return export_scales(amaxes, bound);
}

std::vector<float> int4_scales(const Matrix& w, int64_t block) {
  std::vector<float> amaxes(static_cast<size_t>(w.count() / block));
  amax_of_blocks(kCpu, w.view(), block, amaxes.data());
  return export_scales(amaxes, kMaxInt4);
}

std::string fp8_rows_hex(const Matrix& w) {
  std::vector<uint8_t> codes(static_cast<size_t>(w.count()));
  quantize_fp8_rows(kCpu, w.view(), row_scales(w, kMaxE4M3).data(), codes.data());
  return to_hex(codes);
}

std::string int4_hex(const Matrix& w, int64_t block) {
  std::vector<uint8_t> packed(static_cast<size_t>(w.count() / 2));
  quantize_int4(kCpu, w.view(), block, int4_scales(w, block).data(), packed.data());
  return to_hex(packed);
}

Matrix matrix_w() {  // 8.1
  return matrix_of_hex(DType::kBF16, 2, 32,
                       "f8bfc03ea8bf803f30bf008080bde0bf103f90bf983f00bfe83f003ec8bf403f"
                       "70bfb03fa0be0040a03eb0bf703f40bfc83f00bee8bf003f98bf903f10bfe03f"
                       "b03ea0bd003fa03db0be703e40bec83e00bde8be003e98be903e10bee03e803c"
                       "000000000000000000bb00000000000000000000000000000000000000000000");
}

Matrix row_of(const std::vector<double>& values) {
  Matrix x(DType::kF32, 1, static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) x.set(static_cast<int64_t>(i), values[i]);
  return x;
}

TEST(GoldenInteger, Fp8RowsOfW) {  // 8.1
  EXPECT_EQ(to_hex(row_scales(matrix_w(), kMaxE4M3)), "2549923b2549923a");
  EXPECT_EQ(fp8_rows_hex(matrix_w()),
            "fe6af976f280d6fc70f878ee7d5efb72f57ae97e69fa75f27bdefd6ef878f07c"
            "7ae97e69fa75f27bdefd6ef878f07c5600000000be0000000000000000000000");
}

TEST(GoldenInteger, Int4OfW) {  // 8.1, block 16
  EXPECT_EQ(to_hex(int4_scales(matrix_w(), 16)), "dbb68d3e2549923e2549923d25499239");
  EXPECT_EQ(int4_hex(matrix_w(), 16),
            "59f17b14be30d05a02ac24ce47e06a030d050f07910b030d05000a020c040e06");
}

TEST(GoldenInteger, Fp8RowsOfV) {  // 8.2
  const Matrix v =
      matrix_of_hex(DType::kBF16, 2, 16,
                    "cd3d4dbe9a3e333f66bf8d3fa63fdabf553c4d3da9be1c3f453f81bfbf3fd83f"
                    "4dbdcd3d1abeb3bee63e0dbf26bf5a3fd5bbcdbc293e9cbec5be013f3fbf58bf");
  EXPECT_EQ(to_hex(row_scales(v, kMaxE4M3)), "9224793b9224f93a");
  EXPECT_EQ(fp8_rows_hex(v), "5de56a73f7797bfe4655eb7275f87c7edd65eaf377f9fb7ec6d56bf2f578fcfe");
}

TEST(GoldenInteger, Fp8Tiles) {  // 8.4, tiles of 4
  const Matrix w = matrix_w();
  Matrix w4(DType::kBF16, 4, 8);
  for (int64_t c = 0; c < 8; ++c) {
    w4.set(c, w.at(c));
    w4.set(8 + c, w.at(32 + c));
    w4.set(16 + c, 4 * w.at(8 + c));
    w4.set(24 + c, 4 * w.at(40 + c));
  }
  std::vector<float> amaxes(2);
  amax_of_tiles(kCpu, w4.view(), 4, amaxes.data());
  const std::vector<float> scales = export_scales(amaxes, kMaxE4M3);
  EXPECT_EQ(to_hex(scales), "dbb62d3c4992843c");
  std::vector<uint8_t> codes(32);
  quantize_fp8_tiles(kCpu, w4.view(), 4, scales.data(), codes.data());
  EXPECT_EQ(to_hex(codes), "f361ef6ce380c7ee60cf644fdb56d45c75fd7ef47e5ffc74d4f364ee69e16e47");
}

TEST(GoldenInteger, DegenerateRows) {  // 8.6
  const Matrix zero(DType::kBF16, 2, 32);
  EXPECT_EQ(row_scales(zero, kMaxE4M3), (std::vector<float>{1.0f, 1.0f}));
  EXPECT_EQ(fp8_rows_hex(zero), std::string(128, '0'));
  EXPECT_EQ(int4_scales(zero, 16), std::vector<float>(4, 1.0f));
  EXPECT_EQ(int4_hex(zero, 16), std::string(64, '0'));

  Matrix tiny(DType::kBF16, 2, 32);
  for (int i = 0; i < 16; ++i) tiny.set(i, -3.0 + 6.0 * i / 15.0);
  tiny.set(32, 1e-6);
  tiny.set(32 + 16, .001);
  tiny.set(32 + 20, -0.0);
  EXPECT_EQ(to_hex(row_scales(tiny, kMaxE4M3)), "b76ddb3bdbb61536");
}

TEST(GoldenInteger, Int4InBlocksOf4) {  // 8.7
  Matrix q(DType::kBF16, 2, 4);
  const double values[] = {.66796875, -.333984375, .36328125, 3.3125, .5, 1, -1.8203125, .828125};
  for (int i = 0; i < 8; ++i) q.set(i, values[i]);
  EXPECT_EQ(int4_hex(q, 4), "214f9137");
  EXPECT_EQ(to_hex(int4_scales(q, 4)), "2549f23e9224853e");
}

TEST(GoldenInteger, FakeInt8) {  // calibration.md, 3.10
  const Matrix x = row_of({.5 / 127, 1.5 / 127, 2.5 / 127, -1, -1.01, 1.01});
  Matrix y(DType::kF32, 1, 6);
  fake_quantize_int8(kCpu, x.view(), 1.0f, y.bytes.data());
  const double expected[] = {0, .0157480, .0157480, -1, -1.0078740, 1};
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(y.at(i), expected[i], 5e-8) << i;
}

TEST(GoldenInteger, FakeInt4) {  // calibration.md, 3.10
  const Matrix x = row_of({.5, 1.5, 2.5, 3.5, -.5, -7.6, -9, 8});
  Matrix y(DType::kF32, 1, 8);
  const float amax = 7.0f;
  fake_quantize_int4(kCpu, x.view(), nullptr, 8, &amax, 1.0f, y.bytes.data());
  EXPECT_EQ(y.bytes, row_of({0, 2, 2, 4, -0.0, -8, -8, 7}).bytes);
}

// calibration.md, 15.4: W(2,32) and the default grid of 5.1.
class MseSearch : public ::testing::Test {
 protected:
  MseSearch() : w_(DType::kF32, 2, 32) {
    for (int64_t o = 0; o < 2; ++o) {
      for (int64_t i = 0; i < 32; ++i) w_.set(o * 32 + i, ((131 * o + 37 * i) % 127 - 63) / 64.0);
    }
    // torch's linspace: an fp32 step, taken from the nearer end with one rounding.
    const double step = 3.75f / 38.0f;
    for (int i = 0; i < 39; ++i) {
      multipliers_.push_back(static_cast<float>(i < 19 ? .25 + step * i : 4.0 - step * (38 - i)));
    }
  }

  std::vector<float> search(int bits, int64_t block, const std::vector<float>& amaxes) const {
    std::vector<float> best(amaxes.size());
    search_int_amax(kCpu, w_.view(), bits, block, amaxes.data(), multipliers_.data(),
                    static_cast<int64_t>(multipliers_.size()), best.data());
    return best;
  }

  Matrix w_;
  std::vector<float> multipliers_;
};

void expect_near(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 6e-8) << i;
}

TEST_F(MseSearch, Int8Rows) {
  std::vector<float> amaxes(2);
  amax_of_rows(kCpu, w_.view(), amaxes.data());
  EXPECT_EQ(amaxes, (std::vector<float>{.984375f, .96875f}));
  expect_near(search(8, 32, amaxes), {1.02323198f, 1.00699019f});
}

TEST_F(MseSearch, Int4Blocks) {
  std::vector<float> amaxes(4);
  amax_of_blocks(kCpu, w_.view(), 16, amaxes.data());
  EXPECT_EQ(amaxes, (std::vector<float>{.984375f, .984375f, .921875f, .96875f}));
  expect_near(search(4, 16, amaxes), {.82894737f, .92608970f, .86729032f, .91138983f});
}

// The mean squared error of W with every row's INT8 amax, as 15.4 gives it.
TEST_F(MseSearch, ErrorsOfInt8RowsAreThoseOfTheSpecification) {
  const auto error_of = [&](const std::vector<float>& amaxes) {
    double sum = 0.0;
    for (int64_t row = 0; row < 2; ++row) {
      const MatrixView x{&w_.bytes[static_cast<size_t>(row * 32 * 4)], DType::kF32, 1, 32};
      Matrix y(DType::kF32, 1, 32);
      fake_quantize_int8(kCpu, x, amaxes[static_cast<size_t>(row)], y.bytes.data());
      for (int64_t i = 0; i < 32; ++i) sum += std::pow(w_.at(row * 32 + i) - y.at(i), 2);
    }
    return sum / 64;
  };
  EXPECT_NEAR(error_of({.984375f, .96875f}), 4.74e-6, 5e-9);
  EXPECT_NEAR(error_of(search(8, 32, {.984375f, .96875f})), 5.78e-6, 5e-9);
}

TEST(Torch, E4M3OfEveryBF16IsItsFloat8) {  // data/kernels/make_e4m3_of_bf16.py
  std::ifstream file(HALFTONE_TEST_DATA "/kernels/e4m3_of_bf16.txt");
  std::vector<int> codes(65536, -1);
  uint32_t pattern = 0;
  int code = 0;
  int runs = 0;
  for (file >> std::hex; file >> pattern >> code; ++runs) {
    std::fill(codes.begin() + pattern, codes.end(), code);
  }
  ASSERT_GT(runs, 250);
  for (uint32_t i = 0; i < 65536; ++i) {
    ASSERT_EQ(e4m3_of_float(float_of_bf16(static_cast<uint16_t>(i))), codes[i]) << i;
  }
}

}  // namespace
}  // namespace halftone
