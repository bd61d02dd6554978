// The worked examples of formats-and-hf-export.md, section 8.
#include <gtest/gtest.h>

#include "formats/input_format.h"
#include "formats/tensor_bridge.h"
#include "tests/formats/worked_examples.h"

namespace halftone::test {
namespace {

// Stored tensors by suffix, as hex.
using Expected = std::map<std::string, std::string>;

void expect_packed(const PackedLinear& packed, const Expected& expected) {
  EXPECT_EQ(packed.size(), expected.size());
  for (const auto& [suffix, bytes] : expected) EXPECT_EQ(hex(packed.at(suffix)), bytes) << suffix;
}

std::string input_scale(InputKind kind, float amax, Numerics numerics = Numerics::kCpu) {
  return hex(scalar_tensor(input_scale_of(kind, amax, DType::kBF16, numerics)));
}

TEST(CodecGolden, Fp8) {
  expect_packed(pack(*make_fp8_codec(), matrix_w()),
                {{"weight",
                  "fe6af976f280d6fc70f878ee7d5efb72f57ae97e69fa75f27bdefd6ef878f07c"
                  "6ad96e59ea65e26bceed5ee868e06c4600000000ae0000000000000000000000"},
                 {"weight_scale", "2549923b"}});
  expect_packed(pack(*make_fp8_codec(), matrix_v()),
                {{"weight", "5de56a74f7797bfe4655eb7275f87c7ed55de2ec6ff1f376becd63eaed70f4f6"},
                 {"weight_scale", "9224793b"}});
}

TEST(CodecGolden, Fp8InTheReferencesCudaArithmetic) {
  expect_packed(pack(*make_fp8_codec(), matrix_v(), Numerics::kCuda),
                {{"weight", "5de56a74f7797bfe4655eb7275f87c7ed55de2ec6ff1f376becd63eaed70f4f6"},
                 {"weight_scale", "9324793b"}});
  const at::Tensor row =
      from_hex("27bde4bc29bd85bd22bc45bdd2bc073e19bd4e3d52bcc33c08bd95bc95bd4cbc", {1, 16});
  expect_packed(pack(*make_fp8_codec(), row),
                {{"weight", "f1ecf1f6e0f2eb7ef073e36aeee7f7e3"}, {"weight_scale", "25499a39"}});
  expect_packed(pack(*make_fp8_codec(), row, Numerics::kCuda),
                {{"weight", "f1ecf1f6e0f2eb7ef073e36aeee8f8e3"}, {"weight_scale", "25499a39"}});
}

TEST(CodecGolden, Fp8Rows) {
  const auto codec = make_fp8_rows_codec();
  expect_packed(pack(*codec, matrix_w()),
                {{"weight",
                  "fe6af976f280d6fc70f878ee7d5efb72f57ae97e69fa75f27bdefd6ef878f07c"
                  "7ae97e69fa75f27bdefd6ef878f07c5600000000be0000000000000000000000"},
                 {"weight_scale", "2549923b2549923a"}});
  const Expected v{{"weight", "5de56a73f7797bfe4655eb7275f87c7edd65eaf377f9fb7ec6d56bf2f578fcfe"},
                   {"weight_scale", "9224793b9224f93a"}};
  expect_packed(pack(*codec, matrix_v()), v);
  expect_packed(pack(*codec, matrix_v(), Numerics::kCuda),
                {{"weight", v.at("weight")}, {"weight_scale", "9324793b9324f93a"}});
}

TEST(CodecGolden, Fp8Tiles) {  // 8.4
  const at::Tensor w = matrix_w();
  const at::Tensor w4 = at::stack({w[0].slice(0, 0, 8), w[1].slice(0, 0, 8),
                                   w[0].slice(0, 8, 16) * 4, w[1].slice(0, 8, 16) * 4});
  const PackedLinear packed = pack(*make_fp8_tiles_codec(4), w4);
  expect_packed(packed,
                {{"weight", "f361ef6ce380c7ee60cf644fdb56d45c75fd7ef47e5ffc74d4f364ee69e16e47"},
                 {"weight_scale", "dbb62d3c4992843c"}});
  EXPECT_EQ(packed.at("weight_scale").sizes().vec(), (std::vector<int64_t>{1, 1, 2, 1}));
}

TEST(CodecGolden, Int8) {
  expect_packed(pack(*make_int8_codec(), matrix_w()),
                {{"weight",
                  "8518ad40d400fc9124b94be073089d30c457ec7f14a93cd063f88d20b547dc6f"
                  "57ec7f14a93cd063f88d20b547dc6f0400000000000000000000000000000000"},
                 {"weight_scale", "0402813c0402813b"}});
  expect_packed(pack(*make_int8_codec(), matrix_v()),
                {{"weight", "07f11634bd5261810104e72d39b56f7ef90feacc43ae9f7ffffc19d3c74b9182"},
                 {"weight_scale", "6fb75b3c6fb7db3b"}});
}

TEST(CodecGolden, Int4AndW4A8) {
  const Expected int4{
      {"weight", "59f17b14be30d05a02ac24ce47e06a030d050f07910b030d05000a020c040e06"},
      {"weight_scale", "dbb68d3e2549923e2549923d25499239"}};
  expect_packed(pack(*make_int4_codec(16, false), matrix_w()), int4);
  Expected w4a8 = int4;
  w4a8["weight_scale_2"] = "2549923b";
  expect_packed(pack(*make_int4_codec(16, true), matrix_w()), w4a8);
}

TEST(CodecGolden, Nvfp4) {
  const Expected w{{"weight", "2f5e0cf8d3b6174e6d7ae2c5963f5e7ba6275e6cf9e3b50700000f0000000000"},
                   {"weight_scale", "7e7e6e2e"},
                   {"weight_scale_2", "310c433a"}};
  expect_packed(pack(*make_nvfp4_codec({}), matrix_w()), w);
  const auto frozen = make_nvfp4_codec({16, 2688.0f, true, 448.0f});
  expect_packed(pack(*frozen, matrix_w()), w);
  expect_packed(pack(*make_nvfp4_codec({}), matrix_v()),
                {{"weight", "91426df6004ae57719cae57e88c26dff"},
                 {"weight_scale", "7e76"},
                 {"weight_scale_2", "6218263a"}});
}

TEST(CodecGolden, FourOverSix) {
  expect_packed(pack(*make_nvfp4_codec({16, 1536.0f, true, 256.0f}), matrix_w()),
                {{"weight", "2f5e0cf8e4b6174e6d7ae2c5963f5e7ba6275e6cf9e3b50700000f0000000000"},
                 {"weight_scale", "77786828"},
                 {"weight_scale_2", "abaaaa3a"}});
}

TEST(CodecGolden, W4A8Nvfp4) {
  expect_packed(pack(*make_nvfp4_codec({32, 448.0f, false, 448.0f}), matrix_w()),
                {{"weight", "2f5e0cf8d3b6174e6d7ae2c5963f5e7ba6275e6cf9e3b5070000080000000000"},
                 {"weight_scale", "6959"},
                 {"weight_scale_2", "2549923b"}});
}

TEST(CodecGolden, Mx) {
  expect_packed(pack(*make_mxfp8_codec(), matrix_w()),
                {{"weight",
                  "f864f270eb80d0f669f172e87658f46cef73e27862f36fec74d8f668f271e976"
                  "73e27862f36fec74d8f668f271e9765000000000b80000000000000000000000"},
                 {"weight_scale", "7876"}});
  expect_packed(pack(*make_mxfp4_codec(), matrix_w()),
                {{"weight", "1e4d8bd8c2a4063d5c69d1b4852e4c5a95164d5be8c2a4058888888888888888"},
                 {"weight_scale", "7e7c"}});
}

TEST(CodecGolden, InputScales) {
  EXPECT_EQ(input_scale(InputKind::kFp8, 2.25f), "4992a43b");
  EXPECT_EQ(input_scale(InputKind::kFp8, 2.25f, Numerics::kCuda), "4a92a43b");
  EXPECT_EQ(input_scale(InputKind::kInt8, 2.25f), "4522913c");
  EXPECT_EQ(input_scale(InputKind::kNvfp4, 2.25f), "b76d5b3a");
}

// Row 0: sixteen values from -3 to 3, then zeros; row 1 nearly nothing (8.6).
at::Tensor tiny_blocks() {
  at::Tensor w = at::zeros({2, 32}, at::kFloat);
  w[0].slice(0, 0, 16).copy_(at::linspace(-3, 3, 16));
  w[1][0] = 1e-6;
  w[1][16] = .001;
  w[1][20] = -0.0;
  return w.to(at::kBFloat16);
}

TEST(CodecGolden, TinyBlocks) {
  expect_packed(pack(*make_nvfp4_codec({}), tiny_blocks()),
                {{"weight", "ffeecd9a21546677000000000000000001000000000000000700000000000000"},
                 {"weight_scale", "7e380122"},
                 {"weight_scale_2", "2549923a"}});
  EXPECT_EQ(hex(pack(*make_fp8_codec(), tiny_blocks()).at("weight_scale")), "b76ddb3b");
  EXPECT_EQ(hex(pack(*make_fp8_rows_codec(), tiny_blocks()).at("weight_scale")),
            "b76ddb3bdbb61536");
}

TEST(CodecGolden, TinyMxBlocks) {
  expect_packed(pack(*make_mxfp4_codec(), tiny_blocks()),
                {{"weight", "ffeecd9a21546677888888888888888880888888888888888688888888888888"},
                 {"weight_scale", "7e73"}});
  EXPECT_EQ(hex(pack(*make_mxfp8_codec(), tiny_blocks()).at("weight_scale")), "786d");
}

TEST(CodecGolden, ZeroWeights) {
  const at::Tensor zero = at::zeros({2, 32}, at::kBFloat16);
  const std::string rows = "0000803f0000803f";
  const std::string none(128, '0');
  expect_packed(pack(*make_fp8_rows_codec(), zero), {{"weight", none}, {"weight_scale", rows}});
  expect_packed(pack(*make_int8_codec(), zero), {{"weight", none}, {"weight_scale", rows}});
  expect_packed(pack(*make_int4_codec(32, false), zero),
                {{"weight", none.substr(0, 64)}, {"weight_scale", rows}});
  EXPECT_EQ(hex(pack(*make_nvfp4_codec({}), zero).at("weight_scale")), "38383838");
}

TEST(CodecGolden, ZeroMxWeights) {
  const at::Tensor zero = at::zeros({2, 32}, at::kBFloat16);
  expect_packed(pack(*make_mxfp8_codec(), zero),
                {{"weight", std::string(128, '0')}, {"weight_scale", "0000"}});
  expect_packed(pack(*make_mxfp4_codec(), zero),
                {{"weight", std::string(64, '8')}, {"weight_scale", "0000"}});
}

// Published defects: the reference writes NaN codes here.
TEST(CodecGolden, ZeroAndVanishingWeightsReadBackAsNothing) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    for (const double value : {0.0, 1e-45}) {
      const at::Tensor w = at::full({2, 32}, value, at::TensorOptions(dtype));
      for (const auto& codec : every_codec()) {
        SCOPED_TRACE(codec->name() + " " + std::to_string(value > 0));
        const PackedLinear packed = pack(*codec, w);
        for (const auto& [suffix, tensor] : packed) {
          if (!tensor.is_floating_point()) continue;
          EXPECT_TRUE((tensor > 0).all().item<bool>()) << suffix;
          EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << suffix;
        }
        const at::Tensor back = codec->unpack(packed, at::kFloat, nullptr);
        EXPECT_LE(largest(back), 1e-9f);
        EXPECT_TRUE(back.isfinite().all().item<bool>());
      }
    }
  }
}

}  // namespace
}  // namespace halftone::test
