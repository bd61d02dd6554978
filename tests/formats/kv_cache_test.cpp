#include "formats/kv_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "formats/input_format.h"
#include "formats/recipe.h"
#include "tests/core/temporary_folder.h"
#include "tests/formats/quantizers.h"

namespace halftone::test {
namespace {

KvFormat format_of(const std::string& attributes) {
  return kv_format_of(sequence_of(attributes), sequence_of(attributes), "l.3.attn");
}

float largest_of(const at::Tensor& x) {
  return x.abs().max().item<float>();
}

constexpr KvFormat kAll[] = {KvFormat::kNone,        KvFormat::kFp8,        KvFormat::kFp8Cast,
                             KvFormat::kFp8Affine,   KvFormat::kNvfp4,      KvFormat::kNvfp4Cast,
                             KvFormat::kNvfp4Affine, KvFormat::kNvfp4Rotate};

TEST(KvCache, FormatsOfThePresets) {
  const std::map<std::string, KvFormat> expected{{"fp8", KvFormat::kFp8},
                                                 {"fp8_cast", KvFormat::kFp8Cast},
                                                 {"fp8_affine", KvFormat::kFp8Affine},
                                                 {"nvfp4", KvFormat::kNvfp4},
                                                 {"nvfp4_cast", KvFormat::kNvfp4Cast},
                                                 {"nvfp4_affine", KvFormat::kNvfp4Affine},
                                                 {"nvfp4_rotate", KvFormat::kNvfp4Rotate}};
  for (const auto& [name, format] : expected) {
    Recipe recipe;
    add_kv_cache(recipe, name);
    EXPECT_EQ(kv_format_of(recipe.kv("a", 'k'), recipe.kv("a", 'v'), "a"), format) << name;
  }
  EXPECT_EQ(kv_format_of({}, {}, "a"), KvFormat::kNone);
}

TEST(KvCache, RefusesOthers) {
  for (const char* wrong : {"{num_bits: 8, axis: 0}", "{num_bits: e4m3, type: dynamic}",
                            "{num_bits: e4m3, axis: 0}", "{num_bits: e4m3, constant_amax: 5}",
                            "{num_bits: e2m1, block_sizes: {-1: 32, type: dynamic, "
                            "scale_bits: e4m3}}"}) {
    SCOPED_TRACE(wrong);
    expect_error<UsageError>([wrong] { format_of(wrong); }, "KV cache of 'l.3.attn'");
  }
  expect_error<UsageError>([] { kv_format_of(sequence_of("{num_bits: e4m3}"), {}, "l.3.attn"); },
                           "keys and values of 'l.3.attn' different formats");
}

TEST(KvCache, WhatIsCalibrated) {
  const auto of = [](bool (*property)(KvFormat)) {
    std::vector<KvFormat> list;
    for (const KvFormat format : kAll) {
      if (property(format)) list.push_back(format);
    }
    return list;
  };
  EXPECT_EQ(of(&has_scales),
            (std::vector<KvFormat>{KvFormat::kFp8, KvFormat::kFp8Affine, KvFormat::kNvfp4,
                                   KvFormat::kNvfp4Affine, KvFormat::kNvfp4Rotate}));
  EXPECT_EQ(of(&has_bias), (std::vector<KvFormat>{KvFormat::kFp8Affine, KvFormat::kNvfp4Affine}));
  EXPECT_EQ(of(&rotates_keys), std::vector<KvFormat>{KvFormat::kNvfp4Rotate});
}

TEST(KvCache, SchemesAreReadBack) {
  EXPECT_EQ(std::string(kv_algo_of(KvFormat::kFp8Affine)), "FP8");
  EXPECT_EQ(std::string(kv_algo_of(KvFormat::kNvfp4Cast)), "NVFP4");
  EXPECT_EQ(std::string(kv_algo_of(KvFormat::kNvfp4Affine)), "NVFP4_AFFINE");
  for (const KvFormat format : kAll) {
    if (format == KvFormat::kNone) continue;
    const auto back =
        kv_format_of_scheme(kv_scheme_of(format), has_scales(format), has_bias(format));
    // The files do not tell a rotation.
    EXPECT_EQ(back, format == KvFormat::kNvfp4Rotate ? KvFormat::kNvfp4 : format);
  }
  EXPECT_EQ(kv_format_of_scheme(nullptr, false, false), KvFormat::kNone);
  EXPECT_EQ(kv_format_of_scheme("INT8", true, false), std::nullopt);
  EXPECT_EQ(kv_format_of_scheme({{"num_bits", 8}, {"type", "int"}}, true, false), std::nullopt);
}

TEST(FakeQuantKv, Plain) {
  const at::Tensor x = at::tensor({0.3f, 100.0f, 600.0f}).view({1, 1, 1, 3});
  EXPECT_TRUE(fake_quantize_kv(KvFormat::kNone, true, x, {}).is_same(x));
  EXPECT_TRUE(at::equal(fake_quantize_kv(KvFormat::kFp8Cast, true, x, {1.0f, {}}),
                        fake_quantize_input(InputKind::kFp8, x, 448.0f)));
  EXPECT_EQ(largest_of(fake_quantize_kv(KvFormat::kFp8, true, x, {600.0f, {}})), 600.0f);
  const at::Tensor block = at::tensor({1.0f, 2.0f, 3.0f, 4.0f}).repeat({4}).view({1, 1, 1, 16});
  EXPECT_TRUE(at::allclose(fake_quantize_kv(KvFormat::kNvfp4Cast, false, block, {}),
                           at::tensor({1.0f, 2.0f, 2.6666667f, 4.0f}).repeat({4}), 1e-6, 0));
}

TEST(FakeQuantKv, TheBiasIsTakenOffAndPutBack) {
  at::Tensor x = 0.02 * at::sin(at::arange(480, at::kFloat)).view({2, 3, 5, 16});
  const at::Tensor bias = 100.0 * at::arange(48, at::kFloat).view({3, 16});
  x = x + bias.view({1, 3, 1, 16});
  for (const KvFormat format : {KvFormat::kFp8Affine, KvFormat::kNvfp4Affine}) {
    const at::Tensor y = fake_quantize_kv(format, true, x, {0.05f, bias});
    EXPECT_LE(largest_of(y - x), 0.01f) << "without the bias the error would be hundreds";
    EXPECT_GT(largest_of(y - x), 0.0f);
  }
}

TEST(FakeQuantKv, OnlyKeysAreRotated) {
  const at::Tensor x = at::sin(at::arange(64, at::kFloat)).view({1, 2, 2, 16});
  const CacheScale scale{4.0f, {}};
  EXPECT_TRUE(at::equal(fake_quantize_kv(KvFormat::kNvfp4Rotate, false, x, scale),
                        fake_quantize_kv(KvFormat::kNvfp4, false, x, scale)));
  const at::Tensor rotated = fake_quantize_kv(KvFormat::kNvfp4Rotate, true, x, scale);
  EXPECT_FALSE(at::equal(rotated, fake_quantize_kv(KvFormat::kNvfp4, true, x, scale)));
  EXPECT_LE(largest_of(rotated - x), 0.5f);
}

TEST(Hadamard, IsOrthonormalAndSymmetric) {
  for (const int64_t size : {1, 2, 8, 64}) {
    const at::Tensor h = hadamard(at::eye(size));
    EXPECT_TRUE(at::allclose(at::mm(h, h.t()), at::eye(size), 0, 1e-6)) << size;
    EXPECT_TRUE(at::equal(h, h.t())) << size;
    EXPECT_TRUE(at::allclose(h.abs(), at::full({size, size}, 1.0 / std::sqrt(size)))) << size;
  }
  const at::Tensor x = at::sin(at::arange(96, at::kFloat)).view({2, 3, 16});
  EXPECT_TRUE(at::allclose(hadamard(hadamard(x)), x, 0, 1e-6));
  EXPECT_TRUE(at::allclose(hadamard(x), at::matmul(x, hadamard(at::eye(16))), 0, 1e-5));
}

}  // namespace
}  // namespace halftone::test
