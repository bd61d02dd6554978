// T5 and Whisper against the outputs of transformers 5.17 (tests/data/archs).
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "core/log.h"
#include "model/family.h"
#include "model/source_layout.h"
#include "tests/core/temporary_folder.h"
#include "tests/model/tiny_checkpoint.h"

namespace halftone::test {
namespace {

// The real tokens of a mask [B, S] that is padded on one side.
std::vector<TokenRange> ranges_of(const at::Tensor& mask_BS) {
  std::vector<TokenRange> ranges;
  for (int64_t row = 0; row < mask_BS.size(0); ++row) {
    const at::Tensor real = mask_BS[row].nonzero();
    ranges.push_back({real[0].item<int64_t>(), real[-1].item<int64_t>() + 1});
  }
  return ranges;
}

class EncoderDecoderGolden : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  EncoderDecoderGolden() {
    const fs::path source = data_folder() / "archs" / std::get<0>(GetParam());
    fs::copy_file(source / std::get<1>(GetParam()), folder_.path() / "config.json");
    fs::copy_file(source / "model.safetensors", folder_.path() / "model.safetensors");
    checkpoint_.emplace(folder_.path());
    model_ = make_model(*checkpoint_);
    SourceLayout(*checkpoint_, *model_);
    const SafetensorsFile golden(source / "golden.safetensors");
    for (const auto& [name, info] : golden.tensors()) golden_[name] = tensor_of(golden, name);
  }

  bool speech() const { return golden_.count("input_features") > 0; }
  at::Tensor encoder_input() const { return golden_.at(speech() ? "input_features" : "input_ids"); }
  at::Tensor decoder_ids() const { return golden_.at("decoder_input_ids"); }

  BatchContext context() const {
    BatchContext batch;
    batch.length = decoder_ids().size(1);
    batch.tokens.assign(static_cast<size_t>(decoder_ids().size(0)), {0, batch.length});
    batch.encoder_length = encoder_input().size(-1);
    if (speech()) return batch;
    const at::Tensor mask_BS = golden_.at("attention_mask");
    batch.encoder_tokens = ranges_of(mask_BS);
    batch.encoder_padded = !mask_BS.all().item<bool>();
    return batch;
  }

  // The states behind every stage.
  std::vector<States> run(const States& input, const BatchContext& batch, at::ScalarType dtype) {
    model_->prepare(batch.length, dtype, at::kCPU);
    PlainRunner runner;
    std::vector<States> outputs;
    States states = input;
    if (states.encoder.is_floating_point()) states.encoder = states.encoder.to(dtype);
    for (size_t s = 0; s < model_->stages().size(); ++s) {
      states = model_->forward(s, {}, weights_of_stage(*checkpoint_, model_->stages()[s], dtype),
                               std::move(states), batch, runner);
      outputs.push_back(states);
    }
    return outputs;
  }
  std::vector<States> run(at::ScalarType dtype) {
    return run({decoder_ids(), encoder_input()}, context(), dtype);
  }

  TemporaryFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Model> model_;
  Tensors golden_;
};

TEST_P(EncoderDecoderGolden, EveryHiddenStateInFp32) {
  const std::vector<States> outputs = run(at::kFloat);
  int64_t compared = 0;
  const auto compare = [&](const at::Tensor& found, const std::string& name) {
    ASSERT_EQ(golden_.count(name), 1u) << name;
    const at::Tensor& golden = golden_.at(name);
    ASSERT_EQ(found.sizes(), golden.sizes()) << name;
    const double error = relative_error(found, golden);
    RecordProperty(name, concat(error));
    EXPECT_LE(error, 2e-5) << name;
    ++compared;
  };
  int64_t layer = 0;
  for (size_t s = 0; s < outputs.size(); ++s) {
    const std::string& stage = model_->stages()[s].name;
    const at::Tensor encoder_SH = outputs[s].encoder[0];
    if (stage == "encoder embedding" && speech()) compare(encoder_SH, "hidden.encoder_embed");
    if (stage.starts_with("encoder layer")) {
      compare(encoder_SH, concat("hidden.encoder_layer_", layer++));
    }
    if (stage == "decoder embedding") {
      compare(encoder_SH, "hidden.encoder_final_norm");
      layer = 0;
    }
    if (stage.starts_with("decoder layer")) {
      compare(outputs[s].x[0], concat("hidden.decoder_layer_", layer++));
    }
  }
  compare(outputs.back().x, "logits");
  // Everything but the inputs: ids, ids and mask, or features and ids.
  EXPECT_EQ(compared, std::ssize(golden_) - (speech() ? 2 : 3));
}

TEST_P(EncoderDecoderGolden, CloseInBf16) {
  const at::Tensor logits = run(at::kBFloat16).back().x;
  EXPECT_EQ(logits.scalar_type(), at::kBFloat16);
  const double error = relative_error(logits, golden_.at("logits"));
  EXPECT_LE(error, 5e-2);
  EXPECT_GT(error, 1e-5) << "was it computed in bf16?";
}

// Padding of the decoder on either side: the real tokens compute what they compute alone, and
// queries that see nothing stay finite.
TEST_P(EncoderDecoderGolden, DecoderPadding) {
  const at::Tensor alone_TV = run(at::kFloat).back().x[0];
  const int64_t length = decoder_ids().size(1);
  for (const bool left : {false, true}) {
    if (left && speech()) continue;  // learned positions shift with the tokens
    BatchContext batch = context();
    batch.length = length + 5;
    batch.padded = true;
    batch.tokens[0] = left ? TokenRange{5, length + 5} : TokenRange{0, length};
    batch.tokens[1] = {0, length + 5};
    const at::Tensor ids = at::constant_pad_nd(decoder_ids(), {left ? 5 : 0, left ? 0 : 5}, 7);
    for (const States& states : run({ids, encoder_input()}, batch, at::kFloat)) {
      EXPECT_TRUE(states.x.isfinite().all().item<bool>());
      EXPECT_TRUE(states.encoder.isfinite().all().item<bool>());
    }
    const at::Tensor padded_TV = run({ids, encoder_input()}, batch, at::kFloat).back().x[0];
    EXPECT_LE(
        relative_error(padded_TV.slice(0, left ? 5 : 0, left ? length + 5 : length), alone_TV),
        1e-5)
        << "left " << left;
  }
}

TEST_P(EncoderDecoderGolden, RowAloneEqualsItsPaddedSelf) {
  const at::Tensor padded_TV = run(at::kFloat).back().x[1];
  BatchContext batch = context();
  batch.tokens.resize(1);
  at::Tensor input = encoder_input().slice(0, 1);
  if (!speech()) {
    const TokenRange real = batch.encoder_tokens[1];
    input = input.slice(1, real.begin, real.end);
    batch.encoder_length = real.end - real.begin;
    batch.encoder_tokens = {{0, batch.encoder_length}};
    batch.encoder_padded = false;
  }
  const auto outputs = run({decoder_ids().slice(0, 1), input.contiguous()}, batch, at::kFloat);
  EXPECT_LE(relative_error(outputs.back().x[0], padded_TV), 1e-5);
}

// A decoder query before the row's first token sees nothing: its attention output is 0.
TEST_P(EncoderDecoderGolden, QueriesThatSeeNothingGetZero) {
  struct Recorder : PlainRunner {
    at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                      const at::Tensor& bias_N) override {
      if (site == 3) joined = x_BTK;  // self attention's output projection
      return PlainRunner::linear(site, x_BTK, w_NK, bias_N);
    }
    at::Tensor joined;
  };
  BatchContext batch = context();
  batch.padded = true;
  batch.tokens[0].begin = 5;
  States states{decoder_ids(), encoder_input()};
  for (size_t s = 0; s < model_->stages().size(); ++s) {
    const StageSpec& stage = model_->stages()[s];
    Recorder recorder;
    states = model_->forward(s, {}, weights_of_stage(*checkpoint_, stage, at::kFloat),
                             std::move(states), batch, recorder);
    if (!stage.name.starts_with("decoder layer")) continue;
    const at::Tensor zero_BT = (recorder.joined == 0).all(-1);
    EXPECT_TRUE(zero_BT[0].slice(0, 0, 5).all().item<bool>());
    EXPECT_EQ(zero_BT.sum().item<int64_t>(), 5);
  }
}

// Sites describe what forward() calls: each linear and cache once, with inputs of the sizes given.
TEST_P(EncoderDecoderGolden, SitesAreWhatIsCalled) {
  struct Recorder : PlainRunner {
    at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                      const at::Tensor& bias_N) override {
      inputs[site] = x_BTK;
      EXPECT_EQ(bias_N.defined(), !stage->linears[site].bias.empty());
      return PlainRunner::linear(site, x_BTK, w_NK, bias_N);
    }
    std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                                at::Tensor v_BHTD) override {
      keys[site] = k_BHTD;
      return {k_BHTD, v_BHTD};
    }
    const StageSpec* stage = nullptr;
    std::map<size_t, at::Tensor> inputs;
    std::map<size_t, at::Tensor> keys;
  };
  const BatchContext batch = context();
  States states{decoder_ids(), encoder_input()};
  for (size_t s = 0; s < model_->stages().size(); ++s) {
    const StageSpec& stage = model_->stages()[s];
    Recorder recorder;
    recorder.stage = &stage;
    states = model_->forward(s, {}, weights_of_stage(*checkpoint_, stage, at::kFloat),
                             std::move(states), batch, recorder);
    ASSERT_EQ(recorder.inputs.size(), stage.linears.size()) << stage.name;
    ASSERT_EQ(recorder.keys.size(), stage.attentions.size()) << stage.name;
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      const LinearSite& site = stage.linears[i];
      const at::Tensor& x = recorder.inputs.at(i);
      EXPECT_EQ(x.size(2), site.in) << site.name;
      EXPECT_EQ(x.size(1), site.of_encoder ? states.encoder.size(1) : batch.length) << site.name;
      for (size_t k = 0; k < stage.linears.size(); ++k) {
        const int group = stage.linears[k].fused_group;
        const bool same = recorder.inputs.at(k).is_same(x);
        EXPECT_EQ(same, k == i || (group >= 0 && group == site.fused_group)) << site.name;
      }
    }
    for (size_t i = 0; i < stage.attentions.size(); ++i) {
      const AttentionSite& site = stage.attentions[i];
      const at::Tensor& k = recorder.keys.at(i);
      EXPECT_EQ(k.size(1), site.kv_heads);
      EXPECT_EQ(k.size(3), site.key_dim);
      EXPECT_EQ(k.size(2), site.of_encoder ? states.encoder.size(1) : batch.length);
    }
  }
}

// Every tensor of the file belongs to a stage.
TEST_P(EncoderDecoderGolden, EveryTensorIsAskedFor) {
  std::set<std::string> asked;
  for (const auto& names : tensor_names(*model_)) asked.insert(names.begin(), names.end());
  for (const std::string& name : checkpoint_->names()) EXPECT_EQ(asked.count(name), 1u) << name;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, EncoderDecoderGolden,
                         testing::Combine(testing::Values("t5-v1.0", "t5-v1.1", "whisper"),
                                          testing::Values("config.json", "config.v5.json")),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace halftone::test
