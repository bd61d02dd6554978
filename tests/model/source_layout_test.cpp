// Checkpoints that store weights in low bits, against the formulas by hand.
#include "model/source_layout.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/low_bit_source.h"
#include "model/family.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

// A tensor under the dtype that the file shall give it.
struct Stored {
  DType dtype;
  at::Tensor tensor;
};

class SourceLayoutTest : public testing::Test {
 protected:
  SourceLayoutTest() {
    config_["head_dim"] = 8;
    for (const auto& [name, tensor] : tiny_tensors(*tiny_model(config_))) {
      tensors_[name] = {dtype_of(tensor.scalar_type()), tensor};
    }
  }

  void low_bit(const std::string& method, const Json& weights = Json::object()) {
    config_["quantization_config"] = {{"quant_method", method},
                                      {"config_groups", {{"group_0", {{"weights", weights}}}}}};
  }

  void write() {
    write_text_file(folder_.path() / "config.json", config_.dump());
    std::vector<TensorSpec> specs;
    for (const auto& [name, stored] : tensors_) {
      specs.push_back({name, stored.dtype, stored.tensor.sizes().vec()});
    }
    const SafetensorsLayout layout = plan_safetensors(specs);
    File file = File::create(folder_.path() / "model.safetensors");
    file.write_at(0, layout.header.data(), static_cast<int64_t>(layout.header.size()));
    for (const auto& [name, info] : layout.tensors) {
      file.write_at(info.offset, tensors_.at(name).tensor.contiguous().const_data_ptr(),
                    info.bytes);
    }
    file.close();
    checkpoint_.emplace(folder_.path());
    model_ = make_model(*checkpoint_);
    layout_.emplace(*checkpoint_, *model_);
  }

  const StoredTensor& stored(const std::string& name) const {
    for (const auto& stage : layout_->stages()) {
      for (const StoredTensor& one : stage) {
        if (one.name == name) return one;
      }
    }
    throw std::out_of_range(name);
  }

  at::Tensor decoded(const StoredTensor& wanted, DType dtype) const {
    std::vector<at::Tensor> pieces;
    for (const TensorPiece& piece : wanted.pieces) {
      pieces.push_back(tensors_.at(piece.tensor).tensor);
    }
    StoredTensor as = wanted;
    as.dtype = dtype;
    ThreadPool pool(2);
    const at::Tensor alone = decode_stored(as, pieces, nullptr);
    EXPECT_TRUE(at::equal(decode_stored(as, pieces, &pool), alone)) << "on several threads";
    return alone;
  }

  void expect_refused(const std::string& part) {
    expect_error<InputError>([&] { write(); }, part);
  }

  static at::Tensor codes(const std::vector<int64_t>& shape, uint64_t seed) {
    return (numbers(shape, seed) * 127.0).to(at::kChar);
  }

  const std::string name_ = "model.layers.1.mlp.up_proj.weight";  // [48, 32]
  TemporaryFolder folder_;
  Json config_ = tiny_config();
  std::map<std::string, Stored> tensors_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Model> model_;
  std::optional<SourceLayout> layout_;
};

float e4m3(uint8_t byte) {
  const int exponent = byte >> 3 & 15;
  const float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(byte & 7), -9)
                    : std::ldexp(1.0f + static_cast<float>(byte & 7) / 8.0f, exponent - 7);
  return byte & 128 ? -magnitude : magnitude;
}

TEST_F(SourceLayoutTest, Fp8InBlocksWithPartialOnesAtBothEnds) {
  config_["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {20, 12}}};
  at::Tensor bytes = at::empty({48, 32}, at::kByte);
  for (int64_t i = 0; i < bytes.numel(); ++i) {
    bytes.view(-1)[i] = static_cast<uint8_t>((i * 37) % 127 + (i % 3 == 0 ? 128 : 0));
  }
  const at::Tensor scales = numbers({3, 3}, 5).abs() + 0.1;
  tensors_[name_] = {DType::kF8E4M3, bytes};
  tensors_[name_ + "_scale_inv"] = {DType::kF32, scales};
  write();
  const StoredTensor& found = stored(name_);
  EXPECT_EQ(found.dtype, DType::kBF16) << "the model's";
  EXPECT_EQ(found.bytes, 48 * 32 + 9 * 4);
  const at::Tensor w = decoded(found, DType::kF32);
  for (int64_t r = 0; r < 48; ++r) {
    for (int64_t c = 0; c < 32; ++c) {
      const float expected =
          e4m3(bytes[r][c].item<uint8_t>()) * scales[r / 20][c / 12].item<float>();
      ASSERT_EQ(w[r][c].item<float>(), expected) << r << ", " << c;
    }
  }
  EXPECT_TRUE(at::equal(decoded(found, DType::kBF16), w.to(at::kBFloat16))) << "rounded once";
  EXPECT_TRUE(is_low_bit_source(*checkpoint_));
  EXPECT_TRUE(layout_->extra().empty());
}

TEST_F(SourceLayoutTest, Fp8ScalesOfRowsAndOfTheTensor) {
  low_bit("compressed-tensors", {{"num_bits", 8}, {"strategy", "channel"}});
  const at::Tensor bytes = at::full({48, 32}, 0x38, at::kByte);  // 1.0
  const at::Tensor rows = numbers({48, 1}, 7).to(at::kBFloat16);
  tensors_[name_] = {DType::kF8E4M3, bytes};
  tensors_[name_ + "_scale"] = {DType::kBF16, rows};
  tensors_["model.layers.1.mlp.up_proj.input_scale"] = {DType::kF32, at::full({1}, 2.0)};
  write();
  EXPECT_TRUE(at::equal(decoded(stored(name_), DType::kF32), rows.to(at::kFloat).expand({48, 32})));
  EXPECT_EQ(stored(name_).companions,
            std::vector<std::string>{"model.layers.1.mlp.up_proj.input_scale"});
  EXPECT_TRUE(layout_->extra().empty());
  for (const at::Tensor& one : {at::full({1}, 0.25f), at::full({}, 0.25f)}) {
    tensors_[name_ + "_scale"] = {DType::kF32, one};
    write();
    EXPECT_TRUE(at::equal(decoded(stored(name_), DType::kF32), at::full({48, 32}, 0.25f)));
  }
}

// q in [-8, 7] as compressed-tensors packs it: q + 8, eight to a word, the first in the low bits.
at::Tensor packed4(const at::Tensor& q_NK) {
  at::Tensor words = at::zeros({q_NK.size(0), (q_NK.size(1) + 7) / 8}, at::kInt);
  for (int64_t r = 0; r < q_NK.size(0); ++r) {
    for (int64_t c = 0; c < q_NK.size(1); ++c) {
      const auto code = static_cast<uint32_t>(q_NK[r][c].item<int>() + 8);
      const auto word = static_cast<uint32_t>(words[r][c / 8].item<int>());
      words[r][c / 8] = static_cast<int>(word | code << (4 * (c % 8)));
    }
  }
  return words;
}

TEST_F(SourceLayoutTest, PackedInt4) {
  low_bit("compressed-tensors", {{"num_bits", 4}, {"group_size", 16}, {"type", "int"}});
  const at::Tensor q = (numbers({48, 32}, 3) * 8.0).floor().to(at::kInt);
  ASSERT_EQ(q.min().item<int>(), -8);
  const at::Tensor scales = numbers({48, 2}, 4).to(at::kBFloat16);
  tensors_.erase(name_);
  tensors_[name_ + "_packed"] = {DType::kI32, packed4(q)};
  tensors_[name_ + "_scale"] = {DType::kBF16, scales};
  tensors_[name_ + "_shape"] = {DType::kI64, at::tensor({48, 32}, at::kLong)};
  write();
  const at::Tensor expected = q.to(at::kFloat) * scales.to(at::kFloat).repeat_interleave(16, 1);
  EXPECT_TRUE(at::equal(decoded(stored(name_), DType::kF32), expected));
  EXPECT_EQ(stored(name_).companions, std::vector<std::string>{name_ + "_shape"});

  const at::Tensor zeros = (numbers({48, 2}, 9) * 7.0).to(at::kInt);
  tensors_[name_ + "_zero_point"] = {DType::kI32, packed4(zeros.t()).t().contiguous()};
  write();
  EXPECT_TRUE(at::equal(decoded(stored(name_), DType::kF32),
                        (q - zeros.repeat_interleave(16, 1)).to(at::kFloat) *
                            scales.to(at::kFloat).repeat_interleave(16, 1)));

  tensors_[name_ + "_shape"] = {DType::kI64, at::tensor({48, 31}, at::kLong)};
  expect_refused("says [48, 31], but '" + name_ + "' is [48, 32] in config.json");
  tensors_.erase(name_ + "_shape");
  tensors_[name_ + "_scale"] = {DType::kBF16, numbers({48, 3}, 4).to(at::kBFloat16)};
  expect_refused("has shape [48, 3], but '" + name_ + "' is [48, 32] in config.json and needs");
  low_bit("compressed-tensors", {{"num_bits", 3}});
  expect_refused("'num_bits' of packed weights is 3; supported: 4 and 8");
}

TEST_F(SourceLayoutTest, Int8OfRows) {
  low_bit("compressed-tensors", {{"num_bits", 8}, {"type", "int"}});
  const at::Tensor q = codes({48, 32}, 3);
  const at::Tensor rows = numbers({48, 1}, 4);
  tensors_[name_] = {DType::kI8, q};
  tensors_[name_ + "_scale"] = {DType::kF32, rows};
  write();
  EXPECT_TRUE(at::equal(decoded(stored(name_), DType::kF32), q.to(at::kFloat) * rows));
}

TEST_F(SourceLayoutTest, LayersThatAreNotComputedAreDecodedToo) {
  config_["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  tensors_["mtp.eh_proj.weight"] = {DType::kF8E4M3, at::full({6, 4}, 0x40, at::kByte)};
  tensors_["mtp.eh_proj.weight_scale_inv"] = {DType::kF32, at::full({1, 1}, 0.5)};
  tensors_["vision.table"] = {DType::kI64, at::zeros({3}, at::kLong)};
  write();
  ASSERT_EQ(layout_->extra().size(), 2u);
  EXPECT_EQ(layout_->extra()[0].name, "mtp.eh_proj.weight");
  EXPECT_EQ(layout_->extra()[0].dtype, DType::kBF16);
  EXPECT_TRUE(at::equal(decoded(layout_->extra()[0], DType::kF32), at::full({6, 4}, 1.0f)));
  EXPECT_EQ(layout_->extra()[1].name, "vision.table");
}

TEST_F(SourceLayoutTest, WhatDoesNotFit) {
  const auto good = tensors_;
  tensors_[name_] = {DType::kBF16, numbers({32, 48}, 1).to(at::kBFloat16)};
  expect_refused("has shape [32, 48], but config.json asks for [48, 32]");
  tensors_[name_] = {DType::kU8, at::zeros({48, 32}, at::kByte)};
  expect_refused("is U8; expected F32, F16 or BF16");
  tensors_ = good;
  tensors_.erase(name_);
  expect_refused(name_);

  tensors_ = good;
  config_["quantization_config"] = {{"quant_method", "fp8"}};
  tensors_[name_] = {DType::kF8E4M3, at::zeros({48, 32}, at::kByte)};
  expect_refused("is F8_E4M3, but has no scales");
  tensors_[name_ + "_scale_inv"] = {DType::kF32, at::ones({1, 2}, at::kFloat)};
  expect_refused("has shape [1, 2], but '" + name_ + "' is [48, 32] in config.json and needs");
  tensors_[name_ + "_scale_inv"] = {DType::kI8, at::ones({1, 1}, at::kChar)};
  expect_refused("is I8, which does not go with");
  config_["quantization_config"]["weight_block_size"] = {0, 128};
  expect_refused("'weight_block_size' must be two positive numbers");
}

TEST_F(SourceLayoutTest, LayersBeyondThoseOfTheConfiguration) {
  tensors_["model.layers.2.input_layernorm.weight"] = {DType::kF32, at::ones({32}, at::kFloat)};
  expect_refused("'model.layers.2.input_layernorm.weight'");
  expect_refused("config.json asks for 2 of 'model.layers.*', numbered from 0");
}

}  // namespace
}  // namespace halftone::test
