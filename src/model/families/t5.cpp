// T5 v1.0 (ReLU, tied scaled head), v1.1, Flan-T5 and mT5 (gated GELU, own head): RMS norms, scores
// without a scale, relative position biases that block 0 of a stack holds for all of it.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/log.h"
#include "model/config_reader.h"
#include "model/encoder_decoder.h"
#include "model/families/families.h"
#include "model/relative_position.h"

namespace halftone {
namespace {

struct T5Config {
  EncoderDecoderShape shape;
  int64_t position_buckets = 0;
  int64_t max_distance = 0;
  std::string embedding;  // module of the embedding that both stacks share
  bool own_head = false;
  bool scaled_head = false;  // the head reads d_model^-0.5 times the decoder's output
};

// What the releases differ in where config.json is silent.
struct T5Defaults {
  const char* feed_forward = "relu";
  bool scaled_head = true;
};

// "relu", "gated-gelu": whose GELU is the tanh one, as in the published models.
void read_feed_forward(const ConfigReader& config, const T5Defaults& defaults,
                       EncoderDecoderShape& shape) {
  const std::string name = config.text_or("feed_forward_proj", defaults.feed_forward);
  const std::string gated = "gated-";
  shape.gated = name.starts_with(gated);
  const std::string inner = shape.gated ? name.substr(gated.size()) : name;
  const std::string activation = name == "gated-gelu" ? "gelu_new" : inner;
  const auto known = activation_named(activation);
  if (!known) {
    config.fail("feed_forward_proj '", name,
                "' is not supported; supported, also behind 'gated-': ", activation_names());
  }
  shape.activation = *known;
  // transformers also writes what follows from it.
  const std::string dense = config.text_or("dense_act_fn", activation);
  if (activation_named(dense) != known) {
    config.fail("feed_forward_proj '", name, "' contradicts dense_act_fn (", dense, ")");
  }
  const bool is_gated = config.flag_or("is_gated_act", shape.gated);
  if (is_gated != shape.gated) {
    config.fail("feed_forward_proj '", name, "' contradicts is_gated_act (",
                is_gated ? "true" : "false", ")");
  }
}

void read_positions(const ConfigReader& config, T5Config& t5) {
  t5.position_buckets = config.size_or("relative_attention_num_buckets", 32);
  t5.max_distance = config.size_or("relative_attention_max_distance", 128);
  if (t5.position_buckets < 4) {
    config.fail("relative_attention_num_buckets must be at least 4, found ", t5.position_buckets);
  }
  if (t5.max_distance <= t5.position_buckets / 2) {
    config.fail("relative_attention_max_distance (", t5.max_distance,
                ") must be larger than half of relative_attention_num_buckets (",
                t5.position_buckets, ")");
  }
}

// transformers 5 writes an untied head as "tied, not scaled": whether the file holds one decides.
void read_head(const ConfigReader& config, const ModelInput& input, const T5Defaults& defaults,
               T5Config& t5) {
  const auto has = [&](const std::string& module) {
    return input.has_tensor && input.has_tensor(module + ".weight");
  };
  const bool tied = config.flag_or("tie_word_embeddings", true);
  t5.scaled_head = config.flag_or("scale_decoder_outputs", tied && defaults.scaled_head);
  t5.own_head = !tied || (!t5.scaled_head && has("lm_head"));
  // Files that name each shared tensor once may have taken another of its names.
  t5.embedding = "shared";
  for (const char* alias : {"decoder.embed_tokens", "encoder.embed_tokens"}) {
    if (!has("shared") && has(alias)) t5.embedding = alias;
  }
}

T5Config read_config(const ModelInput& input, const T5Defaults& defaults) {
  const ConfigReader config(input.config, input.source);
  T5Config t5;
  EncoderDecoderShape& shape = t5.shape;
  shape.hidden = config.size("d_model");
  shape.vocabulary = config.size("vocab_size");
  shape.encoder.layers = config.layers("num_layers");
  shape.encoder.heads = config.size("num_heads");
  shape.encoder.head_dim = config.size("d_kv");
  shape.encoder.intermediate = config.size("d_ff");
  shape.decoder = shape.encoder;
  if (config.has("num_decoder_layers")) shape.decoder.layers = config.layers("num_decoder_layers");
  shape.norm_epsilon = config.number_or("layer_norm_epsilon", 1e-6);
  if (shape.norm_epsilon < 0.0) {
    config.fail("layer_norm_epsilon must not be negative, found ", shape.norm_epsilon);
  }
  shape.projections = {"q", "k", "v", "o"};
  read_feed_forward(config, defaults, shape);
  read_positions(config, t5);
  read_head(config, input, defaults, t5);
  return t5;
}

class T5Model : public EncoderDecoderModel {
 public:
  explicit T5Model(const T5Config& config) : EncoderDecoderModel(config.shape), config_(config) {
    const TensorNeed embedding{config.embedding + ".weight", {shape().vocabulary, shape().hidden}};
    StageSpec encoder_embedding;
    encoder_embedding.tensors = {embedding};
    encoder_embedding.plain_modules = {config.embedding};
    StageSpec decoder_embedding;
    decoder_embedding.tensors = {embedding};
    StageSpec head;
    LinearSite site;
    site.name = "lm_head";
    site.out = shape().vocabulary;
    site.in = shape().hidden;
    site.weight = config.own_head ? "lm_head.weight" : embedding.name;
    site.shard = ShardAxis::kOutput;
    site.trtllm = "lm_head";
    head.tensors = {{site.weight, embedding.shape}};
    head.linears = {site};
    make_stages(std::move(encoder_embedding), std::move(decoder_embedding), std::move(head));
  }

  // Relative positions end nowhere.
  int64_t max_positions() const override { return std::numeric_limits<int32_t>::max(); }

  std::vector<std::pair<std::string, std::string>> tied_tensors() const override {
    const std::string embedding = config_.embedding + ".weight";
    std::vector<std::pair<std::string, std::string>> tied;
    for (const char* alias :
         {"shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"}) {
      const bool separate = config_.own_head && std::string(alias) == "lm_head";
      if (alias != config_.embedding && !separate) {
        tied.emplace_back(concat(alias, ".weight"), embedding);
      }
    }
    return tied;
  }

  // Published v1.0 files hold a table that no version of the model reads.
  std::vector<std::string> carried_prefixes() const override {
    return {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias."};
  }

  std::vector<std::pair<std::string, int64_t>> numbered_prefixes() const override {
    return {{"encoder.block.", shape().encoder.layers}, {"decoder.block.", shape().decoder.layers}};
  }

 protected:
  LayerModules layer_modules(Stack stack, int64_t layer) const override {
    const bool encoder = stack == Stack::kEncoder;
    const std::string block = concat(prefix(stack), "block.", layer, ".layer.");
    const std::string mlp = block + (encoder ? "1" : "2");
    LayerModules modules;
    modules.self_attention = block + "0.SelfAttention";
    modules.self_norm = block + "0.layer_norm";
    if (!encoder) {
      modules.cross_attention = block + "1.EncDecAttention";
      modules.cross_norm = block + "1.layer_norm";
    }
    for (const char* name : {"wi_0", "wi_1"}) {
      if (shape().gated) modules.mlp.push_back(mlp + ".DenseReluDense." + name);
    }
    if (!shape().gated) modules.mlp.push_back(mlp + ".DenseReluDense.wi");
    modules.mlp.push_back(mlp + ".DenseReluDense.wo");
    modules.mlp_norm = mlp + ".layer_norm";
    modules.position_bias = position_bias(stack);
    modules.position_buckets = config_.position_buckets;
    return modules;
  }

  std::string final_norm(Stack stack) const override {
    return concat(prefix(stack), "final_layer_norm");
  }

  at::Tensor embed_encoder(const StageWeights& weights, const at::Tensor& input) const override {
    return at::embedding(weights.at(config_.embedding + ".weight"), input);
  }
  at::Tensor embed_decoder(const StageWeights& weights, const at::Tensor& ids_BT) const override {
    return at::embedding(weights.at(config_.embedding + ".weight"), ids_BT);
  }

  at::Tensor self_mask(Stack stack, const StageWeights& weights, const at::Tensor& x_BTH,
                       const BatchContext& batch) const override {
    const bool encoder = stack == Stack::kEncoder;
    const int64_t length = x_BTH.size(1);
    const at::Device device = x_BTH.device();
    const at::Tensor bias_1HTT =
        relative_bias({config_.position_buckets, config_.max_distance, encoder},
                      weights.at(position_bias(stack) + ".weight"), length);
    at::Tensor seen = encoder ? encoder_mask(batch, device) : attention_mask(batch, device);
    if (!seen.defined() && encoder) return bias_1HTT;
    if (!seen.defined()) {
      seen = at::ones({length, length}, at::TensorOptions(at::kBool).device(device)).tril();
    }
    return bias_1HTT.masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity());
  }

  double head_scale() const override {
    return config_.scaled_head ? 1.0 / std::sqrt(static_cast<double>(shape().hidden)) : 1.0;
  }

 private:
  static std::string prefix(Stack stack) {
    return stack == Stack::kEncoder ? "encoder." : "decoder.";
  }
  static std::string position_bias(Stack stack) {
    return prefix(stack) + "block.0.layer.0.SelfAttention.relative_attention_bias";
  }

  T5Config config_;
};

std::unique_ptr<Model> make_t5(const ModelInput& input, const T5Defaults& defaults) {
  return std::make_unique<T5Model>(read_config(input, defaults));
}

}  // namespace

Family t5_family() {
  Family family{"t5", {"T5ForConditionalGeneration"}, "relative positions, plain or gated MLP"};
  family.trtllm_decoder = "t5";
  family.make = [](const ModelInput& input) { return make_t5(input, {"relu", true}); };
  family.published = {
      {"T5", R"({"d_model": 512, "d_kv": 64, "num_heads": 8, "d_ff": 2048,
            "vocab_size": 32128, "num_layers": 1})"},
      {"T5 v1.1, Flan-T5", R"({"d_model": 1024, "d_kv": 64, "num_heads": 16, "d_ff": 2816,
            "vocab_size": 32128, "num_layers": 1, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": false})"}};
  return family;
}

Family mt5_family() {
  Family family{"mt5", {"MT5ForConditionalGeneration"}, "T5 v1.1 with other defaults"};
  family.trtllm_decoder = "t5";
  family.make = [](const ModelInput& input) { return make_t5(input, {"gated-gelu", false}); };
  family.published = {{"mT5", R"({"d_model": 512, "d_kv": 64, "num_heads": 6, "d_ff": 1024,
            "vocab_size": 250112, "num_layers": 1, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": false})"}};
  return family;
}

}  // namespace halftone
