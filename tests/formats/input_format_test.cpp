#include "formats/input_format.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/log.h"
#include "formats/tensor_bridge.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"

namespace halftone::test {
namespace {

InputFormat input_of(const std::string& attributes) {
  return input_format_of(sequence_of(attributes), "m");
}

std::string blocks(const char* bits, int size, const char* scale) {
  return concat("{num_bits: ", bits, ", block_sizes: {-1: ", size,
                ", type: dynamic, scale_bits: ", scale, "}}");
}

TEST(InputFormat, OfQuantizers) {
  EXPECT_EQ(input_format_of({}, "m").kind, InputKind::kNone);
  EXPECT_EQ(input_of("{num_bits: e4m3}").kind, InputKind::kFp8);
  EXPECT_EQ(input_of("{num_bits: e4m3, type: dynamic}").kind, InputKind::kFp8Dynamic);
  EXPECT_EQ(input_of("{num_bits: e4m3, block_sizes: {-1: null, type: dynamic}}").kind,
            InputKind::kFp8Token);
  EXPECT_EQ(input_of("{num_bits: 8}").kind, InputKind::kInt8);
  EXPECT_EQ(input_of(blocks("e2m1", 16, "e4m3")).kind, InputKind::kNvfp4);
  EXPECT_EQ(input_of(blocks("e2m1", 32, "e8m0")).kind, InputKind::kMxfp4);
  EXPECT_EQ(input_of(blocks("e4m3", 32, "e8m0")).kind, InputKind::kMxfp8);
}

TEST(InputFormat, RefusesOthers) {
  for (const std::string& wrong :
       {std::string("{num_bits: e4m3, axis: 0}"), std::string("{num_bits: 4}"),
        std::string("{num_bits: 8, type: dynamic}"),
        std::string("{num_bits: e4m3, use_constant_amax: true}"), blocks("e2m1", 32, "e4m3"),
        blocks("e2m1", 16, "e8m0"), std::string("{num_bits: e2m1, block_sizes: {-1: 16}}")}) {
    SCOPED_TRACE(wrong);
    expect_error<UsageError>([&] { input_of(wrong); }, "'m.input_quantizer' a format");
  }
  QuantizerSequence twice = sequence_of("{num_bits: e4m3}");
  twice.stages.push_back(twice.only());
  expect_error<UsageError>([&] { input_format_of(twice, "m"); }, "'m.input_quantizer' a format");
}

TEST(InputFormat, ConstantsNeedNoCalibration) {  // calibration.md, 4.5
  const InputFormat pinned = input_of(
      "{num_bits: e2m1, constant_amax: 2688, block_sizes: {-1: 16, type: dynamic, "
      "scale_bits: e4m3}}");
  EXPECT_EQ(pinned.constant_amax, 2688.0);
  EXPECT_TRUE(pinned.has_scale());
  EXPECT_FALSE(pinned.needs_amax());
  EXPECT_TRUE(input_of("{num_bits: e4m3}").needs_amax());
  EXPECT_EQ(input_scale_of(pinned.kind, 2688.0f, DType::kF32, Numerics::kCpu), 1.0f);
}

TEST(InputFormat, OnlyCalibratedKindsHaveScales) {
  for (const InputKind kind : {InputKind::kNone, InputKind::kFp8Dynamic, InputKind::kFp8Token,
                               InputKind::kMxfp4, InputKind::kMxfp8}) {
    EXPECT_FALSE((InputFormat{kind, {}}.has_scale())) << name_of(kind);
  }
  for (const InputKind kind : {InputKind::kFp8, InputKind::kInt8, InputKind::kNvfp4}) {
    EXPECT_TRUE((InputFormat{kind, {}}.has_scale())) << name_of(kind);
  }
}

TEST(InputScales, StandForTheirAmax) {
  EXPECT_FLOAT_EQ(amax_of_input_scale(InputKind::kFp8, 2.25f / 448.0f), 2.25f);
  EXPECT_FLOAT_EQ(amax_of_input_scale(InputKind::kInt8, 2.25f / 127.0f), 2.25f);
  EXPECT_FLOAT_EQ(amax_of_input_scale(InputKind::kNvfp4, 2.25f / 2688.0f), 2.25f);
}

TEST(InputScales, OfZeroInputs) {  // formats-and-hf-export.md, 8.6
  const auto scale = [](InputKind kind) {
    return input_scale_of(kind, 0.0f, DType::kBF16, Numerics::kCpu);
  };
  EXPECT_EQ(scale(InputKind::kFp8), 1.0f);
  EXPECT_EQ(scale(InputKind::kInt8), 1.0f);
  EXPECT_EQ(scale(InputKind::kNvfp4), 0.0022321429f);
}

TEST(SanitizeAmax, ZeroNanAndRange) {
  EXPECT_EQ(sanitize_amax(2.5f, 448.0f, DType::kBF16), 2.5f);
  for (const float bad : {0.0f, -0.0f, -1.0f, NAN}) {
    EXPECT_EQ(sanitize_amax(bad, 448.0f, DType::kBF16), 448.0f);
  }
  EXPECT_EQ(sanitize_amax(1e-42f, 1.0f, DType::kF32), std::ldexp(1.0f, -126));
  EXPECT_EQ(sanitize_amax(1e-42f, 1.0f, DType::kBF16), std::ldexp(1.0f, -126));
  EXPECT_EQ(sanitize_amax(1e-7f, 1.0f, DType::kF16), std::ldexp(1.0f, -14));
  EXPECT_EQ(sanitize_amax(INFINITY, 1.0f, DType::kF16), 65504.0f);
  EXPECT_EQ(sanitize_amax(INFINITY, 1.0f, DType::kF32), std::numeric_limits<float>::max());
  EXPECT_EQ(sanitize_amax(INFINITY, 1.0f, DType::kBF16),
            at::scalar_tensor(3.3895313892515355e38, at::kBFloat16).item<float>());
}

void expect_close(const at::Tensor& a, const at::Tensor& b, double relative) {
  EXPECT_TRUE(at::allclose(a, b, relative, 0)) << a << b;
}

TEST(FakeQuant, InputsAsTheKernelsSeeThem) {  // calibration.md, 3.10
  expect_close(fake_quantize_input(InputKind::kFp8, at::tensor({0.01f, 500.0f, 0.001f}), 0.0f),
               at::tensor({0.0100446f, 1.0f, 0.0009766f}), 1e-4);
  expect_close(fake_quantize_input(
                   InputKind::kInt8,
                   at::tensor({0.5f / 127, 1.5f / 127, 2.5f / 127, -1.0f, -1.01f, 1.01f}), 1.0f),
               at::tensor({0.0f, 0.0157480f, 0.0157480f, -1.0f, -1.0078740f, 1.0f}), 1e-5);
  const at::Tensor block = at::tensor({1.0f, 2.0f, 3.0f, 4.0f}).repeat({4});
  expect_close(fake_quantize_input(InputKind::kNvfp4, block, 448.0f),
               at::tensor({1.0f, 2.0f, 2.6666667f, 4.0f}).repeat({4}), 1e-6);
  const at::Tensor steps = at::arange(16, at::kFloat);
  const at::Tensor two = at::stack({0.1 * steps - 0.8, 0.01 * steps});
  expect_close(
      fake_quantize_input(InputKind::kNvfp4, two, 0.8f),
      at::tensor({-.8f,       -.8f,      -.5333333f, -.5333333f, -.4f,      -.2666667f, -.2f,
                  -.1333333f, 0.0f,      .1333333f,  .2f,        .2666667f, .4f,        .5333333f,
                  .5333333f,  .8f,       0.0f,       .0119048f,  .0238095f, .0357143f,  .0357143f,
                  .0476190f,  .0714286f, .0714286f,  .0714286f,  .0952381f, .0952381f,  .0952381f,
                  .1428572f,  .1428572f, .1428572f,  .1428572f})
          .view({2, 16}),
      1e-5);
}

TEST(FakeQuant, ViewsKeepTheirType) {
  const at::Tensor turned = at::arange(64, at::kFloat).view({16, 4}).to(at::kBFloat16).t();
  const at::Tensor z = fake_quantize_input(InputKind::kFp8, turned, 63.0f);
  EXPECT_EQ(z.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(z, fake_quantize_input(InputKind::kFp8, turned.contiguous(), 63.0f)));
  EXPECT_LE((z - turned).abs().max().item<float>(), 2.0f);
  EXPECT_TRUE(fake_quantize_input(InputKind::kNone, turned, 1.0f).is_same(turned));
}

TEST(FakeQuant, DynamicScalesComeFromTheInput) {
  const at::Tensor x = at::tensor({0.1f, -3.0f, 7.0f, 40.0f, 1.0f, 2.0f, 0.3f, 0.02f}).view({2, 4});
  EXPECT_TRUE(at::equal(fake_quantize_input(InputKind::kFp8Dynamic, x, 1.0f),
                        fake_quantize_input(InputKind::kFp8, x, 40.0f)));
  const at::Tensor rows = fake_quantize_input(InputKind::kFp8Token, x, 1.0f);
  for (int64_t row = 0; row < 2; ++row) {
    EXPECT_TRUE(at::equal(
        rows[row], fake_quantize_input(InputKind::kFp8, x[row], x[row].abs().max().item<float>())));
  }
}

}  // namespace
}  // namespace halftone::test
