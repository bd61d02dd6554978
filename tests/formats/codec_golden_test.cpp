// The worked examples of formats-and-hf-export.md, section 8.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "formats/codecs.h"
#include "formats/kv_cache.h"
#include "formats/tensor_bridge.h"

namespace halftone::test {
namespace {

std::string hex(const at::Tensor& tensor) {
  const at::Tensor host = tensor.contiguous();
  const auto* bytes = static_cast<const uint8_t*>(host.const_data_ptr());
  std::string text;
  char two[3];
  for (size_t i = 0; i < host.nbytes(); ++i) {
    std::snprintf(two, sizeof two, "%02x", bytes[i]);
    text += two;
  }
  return text;
}

at::Tensor from_hex(const std::string& text, const std::vector<int64_t>& shape) {
  at::Tensor tensor = at::empty(shape, at::kBFloat16);
  auto* bytes = static_cast<uint8_t*>(tensor.mutable_data_ptr());
  for (size_t i = 0; i < tensor.nbytes(); ++i) {
    bytes[i] = static_cast<uint8_t>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return tensor;
}

at::Tensor matrix_w() {
  return from_hex(
      "f8bfc03ea8bf803f30bf008080bde0bf103f90bf983f00bfe83f003ec8bf403f"
      "70bfb03fa0be0040a03eb0bf703f40bfc83f00bee8bf003f98bf903f10bfe03f"
      "b03ea0bd003fa03db0be703e40bec83e00bde8be003e98be903e10bee03e803c"
      "000000000000000000bb00000000000000000000000000000000000000000000",
      {2, 32});
}

at::Tensor matrix_v() {
  return from_hex(
      "cd3d4dbe9a3e333f66bf8d3fa63fdabf553c4d3da9be1c3f453f81bfbf3fd83f"
      "4dbdcd3d1abeb3bee63e0dbf26bf5a3fd5bbcdbc293e9cbec5be013f3fbf58bf",
      {2, 16});
}

PackedLinear pack(const Codec& codec, const at::Tensor& w, std::optional<float> input_amax,
                  Numerics numerics = Numerics::kCpu) {
  LinearScales scales;
  scales.weight_amax = w.to(at::kFloat).abs().max().item<float>();
  scales.input_amax = input_amax;
  scales.input_dtype = DType::kBF16;
  return codec.pack(w, scales, numerics, nullptr);
}

TEST(CodecGolden, Fp8) {
  const PackedLinear w = pack(fp8_codec(), matrix_w(), 2.25f);
  EXPECT_EQ(hex(w.at("weight")),
            "fe6af976f280d6fc70f878ee7d5efb72f57ae97e69fa75f27bdefd6ef878f07c"
            "6ad96e59ea65e26bceed5ee868e06c4600000000ae0000000000000000000000");
  EXPECT_EQ(hex(w.at("weight_scale")), "2549923b");
  EXPECT_EQ(hex(w.at("input_scale")), "4992a43b");
  const PackedLinear v = pack(fp8_codec(), matrix_v(), {});
  EXPECT_EQ(hex(v.at("weight")),
            "5de56a74f7797bfe4655eb7275f87c7ed55de2ec6ff1f376becd63eaed70f4f6");
  EXPECT_EQ(hex(v.at("weight_scale")), "9224793b");
  EXPECT_EQ(v.count("input_scale"), 0u);
}

TEST(CodecGolden, Fp8InTheReferencesCudaArithmetic) {
  const PackedLinear w = pack(fp8_codec(), matrix_w(), 2.25f, Numerics::kCuda);
  EXPECT_EQ(hex(w.at("input_scale")), "4a92a43b");
  EXPECT_EQ(hex(pack(fp8_codec(), matrix_v(), {}, Numerics::kCuda).at("weight_scale")), "9324793b");
  const at::Tensor row =
      from_hex("27bde4bc29bd85bd22bc45bdd2bc073e19bd4e3d52bcc33c08bd95bc95bd4cbc", {1, 16});
  EXPECT_EQ(hex(pack(fp8_codec(), row, {}).at("weight")), "f1ecf1f6e0f2eb7ef073e36aeee7f7e3");
  EXPECT_EQ(hex(pack(fp8_codec(), row, {}, Numerics::kCuda).at("weight")),
            "f1ecf1f6e0f2eb7ef073e36aeee8f8e3");
}

TEST(CodecGolden, Int8) {
  const PackedLinear w = pack(int8_weight_only_codec(), matrix_w(), {});
  EXPECT_EQ(hex(w.at("weight")),
            "8518ad40d400fc9124b94be073089d30c457ec7f14a93cd063f88d20b547dc6f"
            "57ec7f14a93cd063f88d20b547dc6f0400000000000000000000000000000000");
  EXPECT_EQ(hex(w.at("weight_scale")), "0402813c0402813b");
  const PackedLinear v = pack(int8_weight_only_codec(), matrix_v(), {});
  EXPECT_EQ(hex(v.at("weight")),
            "07f11634bd5261810104e72d39b56f7ef90feacc43ae9f7ffffc19d3c74b9182");
  EXPECT_EQ(hex(v.at("weight_scale")), "6fb75b3c6fb7db3b");
}

TEST(CodecGolden, Nvfp4) {
  const PackedLinear w = pack(nvfp4_codec(), matrix_w(), 2.25f);
  EXPECT_EQ(hex(w.at("weight")),
            "2f5e0cf8d3b6174e6d7ae2c5963f5e7ba6275e6cf9e3b50700000f0000000000");
  EXPECT_EQ(hex(w.at("weight_scale")), "7e7e6e2e");
  EXPECT_EQ(hex(w.at("weight_scale_2")), "310c433a");
  EXPECT_EQ(hex(w.at("input_scale")), "b76d5b3a");
  const PackedLinear v = pack(nvfp4_codec(), matrix_v(), {});
  EXPECT_EQ(hex(v.at("weight")), "91426df6004ae57719cae57e88c26dff");
  EXPECT_EQ(hex(v.at("weight_scale")), "7e76");
  EXPECT_EQ(hex(v.at("weight_scale_2")), "6218263a");
}

TEST(CodecGolden, Nvfp4TinyBlocks) {  // 8.6
  at::Tensor w = at::zeros({2, 32}, at::kFloat);
  w[0].slice(0, 0, 16).copy_(at::linspace(-3, 3, 16));
  w[1][0] = 1e-6;
  w[1][16] = .001;
  w[1][20] = -0.0;
  const PackedLinear packed = pack(nvfp4_codec(), w.to(at::kBFloat16), {});
  EXPECT_EQ(hex(packed.at("weight")),
            "ffeecd9a21546677000000000000000001000000000000000700000000000000");
  EXPECT_EQ(hex(packed.at("weight_scale")), "7e380122");
  EXPECT_EQ(hex(packed.at("weight_scale_2")), "2549923a");
}

// Published defects: the reference writes NaN codes here.
TEST(CodecGolden, ZeroAndVanishingWeights) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    for (const double value : {0.0, 1e-45}) {
      const at::Tensor w = at::full({2, 32}, value, at::TensorOptions(dtype));
      for (const Codec* codec : codecs()) {
        SCOPED_TRACE(codec->name() + " " + std::to_string(value > 0));
        const PackedLinear packed = pack(*codec, w, {});
        for (const auto& [suffix, tensor] : packed) {
          if (tensor.is_floating_point()) {
            EXPECT_TRUE((tensor > 0).all().item<bool>()) << suffix;
            EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << suffix;
          }
        }
        const at::Tensor back = codec->unpack(packed, at::kFloat, nullptr);
        EXPECT_LE(back.abs().max().item<float>(), 1e-9f);
        EXPECT_TRUE(back.isfinite().all().item<bool>());
      }
      EXPECT_EQ(hex(pack(nvfp4_codec(), at::zeros({1, 16}, dtype), {}).at("weight_scale")), "38");
    }
  }
}

TEST(CodecGolden, ZeroInputs) {
  EXPECT_EQ(pack(fp8_codec(), matrix_w(), 0.0f).at("input_scale").item<float>(), 1.0f);
  EXPECT_EQ(pack(nvfp4_codec(), matrix_w(), 0.0f).at("input_scale").item<float>(), 0.0022321429f);
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

TEST(FakeQuant, InputsAsTheKernelsSeeThem) {  // calibration.md, 3.10
  const at::Tensor x = at::tensor({0.01f, 500.0f, 0.001f});
  const at::Tensor y = fp8_codec().fake_quantize_input(x, 0.0f);
  EXPECT_TRUE(at::allclose(y, at::tensor({0.0100446f, 1.0f, 0.0009766f}), 1e-4, 0));
  const at::Tensor block = at::tensor({1.0f, 2.0f, 3.0f, 4.0f}).repeat({4});
  const at::Tensor four = nvfp4_codec().fake_quantize_input(block, 448.0f);
  EXPECT_TRUE(at::allclose(four, at::tensor({1.0f, 2.0f, 2.6666667f, 4.0f}).repeat({4}), 1e-6, 0));
  // A view that is not contiguous, in the dtype of the input.
  const at::Tensor turned = at::arange(64, at::kFloat).view({16, 4}).to(at::kBFloat16).t();
  const at::Tensor z = fp8_codec().fake_quantize_input(turned, 63.0f);
  EXPECT_EQ(z.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(z, fp8_codec().fake_quantize_input(turned.contiguous(), 63.0f)));
  EXPECT_LE((z - turned).abs().max().item<float>(), 2.0f);
}

TEST(FakeQuant, KeysAndValues) {
  const at::Tensor x = at::tensor({0.3f, 100.0f, 600.0f});
  EXPECT_TRUE(fake_quantize_kv(KvFormat::kNone, x, 1.0f).is_same(x));
  EXPECT_TRUE(at::equal(fake_quantize_kv(KvFormat::kFp8Cast, x, 1.0f),
                        fp8_codec().fake_quantize_input(x, 448.0f)));
  EXPECT_EQ(fake_quantize_kv(KvFormat::kFp8, x, 600.0f)[2].item<float>(), 600.0f);
}

}  // namespace
}  // namespace halftone::test
