// Whisper: two convolutions over log-mel frames, LayerNorms with bias, attention with biases on all
// but the keys, erf GELU, a head tied to the decoder's embedding.
#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "model/config_reader.h"
#include "model/encoder_decoder.h"
#include "model/families/families.h"

namespace halftone {
namespace {

struct WhisperConfig {
  EncoderDecoderShape shape;
  int64_t mel_bins = 0;
  int64_t source_positions = 0;
  int64_t target_positions = 0;
  bool tied = true;
  std::string source;  // config.json's path
};

StackShape read_stack(const ConfigReader& config, int64_t hidden, const std::string& name) {
  const std::string heads = name + "_attention_heads";
  StackShape stack;
  stack.layers = config.layers((name + "_layers").c_str());
  stack.heads = config.size(heads.c_str());
  stack.intermediate = config.size((name + "_ffn_dim").c_str());
  if (hidden % stack.heads != 0) {
    config.fail("d_model (", hidden, ") must be a multiple of ", heads, " (", stack.heads, ")");
  }
  stack.head_dim = hidden / stack.heads;
  stack.attention_scale = 1.0 / std::sqrt(static_cast<double>(stack.head_dim));
  return stack;
}

// scale_embedding has no effect in transformers' Whisper, and none here.
WhisperConfig read_config(const ModelInput& input) {
  const ConfigReader config(input.config, input.source);
  WhisperConfig whisper;
  whisper.source = input.source;
  EncoderDecoderShape& shape = whisper.shape;
  shape.hidden = config.size("d_model");
  shape.vocabulary = config.size("vocab_size");
  shape.encoder = read_stack(config, shape.hidden, "encoder");
  shape.decoder = read_stack(config, shape.hidden, "decoder");
  shape.projections = {"q_proj", "k_proj", "v_proj", "out_proj"};
  shape.projection_biases = {true, false, true, true};
  shape.layer_norm = true;
  shape.norm_epsilon = 1e-5;
  shape.mlp_bias = true;
  const std::string activation = config.text_or("activation_function", "gelu");
  const auto known = activation_named(activation);
  if (!known) {
    config.fail("activation_function '", activation,
                "' is not supported; supported: ", activation_names());
  }
  shape.activation = *known;
  whisper.mel_bins = config.size_or("num_mel_bins", 80);
  whisper.source_positions = config.size_or("max_source_positions", 1500);
  whisper.target_positions = config.size_or("max_target_positions", 448);
  whisper.tied = config.flag_or("tie_word_embeddings", true);
  return whisper;
}

class WhisperModel : public EncoderDecoderModel {
 public:
  explicit WhisperModel(const WhisperConfig& config)
      : EncoderDecoderModel(config.shape), config_(config) {
    make_stages(encoder_embedding(), decoder_embedding(), head());
  }

  int64_t max_positions() const override { return config_.target_positions; }
  bool hears_sound() const override { return true; }

  std::vector<std::pair<std::string, std::string>> tied_tensors() const override {
    if (!config_.tied) return {};
    return {{"proj_out.weight", kTokens + kWeight}};
  }

  std::vector<std::pair<std::string, int64_t>> numbered_prefixes() const override {
    return {{"model.encoder.layers.", shape().encoder.layers},
            {"model.decoder.layers.", shape().decoder.layers}};
  }

 protected:
  LayerModules layer_modules(Stack stack, int64_t layer) const override {
    const std::string prefix = concat(prefix_of(stack), "layers.", layer, ".");
    LayerModules modules;
    modules.self_attention = prefix + "self_attn";
    modules.self_norm = prefix + "self_attn_layer_norm";
    if (stack == Stack::kDecoder) {
      modules.cross_attention = prefix + "encoder_attn";
      modules.cross_norm = prefix + "encoder_attn_layer_norm";
    }
    modules.mlp = {prefix + "fc1", prefix + "fc2"};
    modules.mlp_norm = prefix + "final_layer_norm";
    return modules;
  }

  std::string final_norm(Stack stack) const override { return prefix_of(stack) + "layer_norm"; }

  at::Tensor embed_encoder(const StageWeights& weights, const at::Tensor& input) const override {
    const int64_t frames = 2 * config_.source_positions;
    if (input.dim() != 3 || input.size(1) != config_.mel_bins || input.size(2) != frames) {
      throw InputError(concat("the encoder reads [batch, ", config_.mel_bins, ", ", frames,
                              "] features (num_mel_bins, 2 * max_source_positions of '",
                              config_.source, "'), found ", shape_text(input.sizes().vec())));
    }
    const auto convolve = [&](const std::string& module, const at::Tensor& x_BCF, int64_t stride) {
      return at::gelu(at::conv1d(x_BCF, weights.at(module + kWeight), weights.at(module + ".bias"),
                                 stride, /*padding=*/1));
    };
    const at::Tensor x_BHS = convolve(kConv2, convolve(kConv1, input, 1), 2);
    return x_BHS.transpose(1, 2).contiguous() + weights.at(kSourcePositions + kWeight);
  }

  at::Tensor embed_decoder(const StageWeights& weights, const at::Tensor& ids_BT) const override {
    const int64_t length = ids_BT.size(1);
    if (length > config_.target_positions) {
      throw InputError(concat("the decoder reads at most ", config_.target_positions,
                              " tokens (max_target_positions of '", config_.source, "'), found ",
                              length));
    }
    const at::Tensor positions_TH = weights.at(kTargetPositions + kWeight).slice(0, 0, length);
    return at::embedding(weights.at(kTokens + kWeight), ids_BT) + positions_TH;
  }

  at::Tensor self_mask(Stack stack, const StageWeights& /*weights*/, const at::Tensor& x_BTH,
                       const BatchContext& batch) const override {
    return stack == Stack::kEncoder ? encoder_mask(batch, x_BTH.device())
                                    : attention_mask(batch, x_BTH.device());
  }

 private:
  static inline const std::string kWeight = ".weight";
  static inline const std::string kConv1 = "model.encoder.conv1";
  static inline const std::string kConv2 = "model.encoder.conv2";
  static inline const std::string kSourcePositions = "model.encoder.embed_positions";
  static inline const std::string kTokens = "model.decoder.embed_tokens";
  static inline const std::string kTargetPositions = "model.decoder.embed_positions";

  static std::string prefix_of(Stack stack) {
    return stack == Stack::kEncoder ? "model.encoder." : "model.decoder.";
  }

  StageSpec encoder_embedding() const {
    const int64_t hidden = shape().hidden;
    StageSpec stage;
    stage.tensors = {{kConv1 + kWeight, {hidden, config_.mel_bins, 3}},
                     {kConv1 + ".bias", {hidden}},
                     {kConv2 + kWeight, {hidden, hidden, 3}},
                     {kConv2 + ".bias", {hidden}},
                     {kSourcePositions + kWeight, {config_.source_positions, hidden}}};
    stage.plain_modules = {kConv1, kConv2, kSourcePositions};
    return stage;
  }

  StageSpec decoder_embedding() const {
    StageSpec stage;
    stage.tensors = {{kTokens + kWeight, {shape().vocabulary, shape().hidden}},
                     {kTargetPositions + kWeight, {config_.target_positions, shape().hidden}}};
    stage.plain_modules = {kTokens, kTargetPositions};
    return stage;
  }

  StageSpec head() const {
    StageSpec stage;
    LinearSite site;
    site.name = "proj_out";
    site.out = shape().vocabulary;
    site.in = shape().hidden;
    site.weight = (config_.tied ? kTokens : site.name) + kWeight;
    site.shard = ShardAxis::kOutput;
    site.trtllm = "lm_head";
    stage.tensors = {{site.weight, {site.out, site.in}}};
    stage.linears = {site};
    return stage;
  }

  WhisperConfig config_;
};

}  // namespace

Family whisper_family() {
  return {"whisper",
          {"WhisperForConditionalGeneration"},
          "sound to text",
          {{"Whisper", R"({"d_model": 1280, "encoder_layers": 1, "encoder_attention_heads": 20,
            "encoder_ffn_dim": 5120, "decoder_layers": 1, "decoder_attention_heads": 20,
            "decoder_ffn_dim": 5120, "num_mel_bins": 128, "vocab_size": 51866})"}},
          [](const ModelInput& input) -> std::unique_ptr<Model> {
            return std::make_unique<WhisperModel>(read_config(input));
          },
          "whisper"};
}

}  // namespace halftone
