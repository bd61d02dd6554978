// T5 v1.0 (ReLU, tied scaled head), v1.1, Flan-T5 and mT5 (gated GELU, own head): RMS norms, scores
// without a scale, relative position biases that block 0 of a stack holds for all of it.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/log.h"
#include "model/blocks.h"
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
void read_feed_forward(const ModelInput& input, const T5Defaults& defaults,
                       EncoderDecoderShape& shape) {
  const Json& config = input.config;
  const auto name =
      json_member_or<std::string>(config, "feed_forward_proj", defaults.feed_forward, input.source);
  const std::string gated = "gated-";
  shape.gated = name.starts_with(gated);
  const std::string inner = shape.gated ? name.substr(gated.size()) : name;
  const std::string activation = name == "gated-gelu" ? "gelu_new" : inner;
  const auto known = mlp_activation(activation);
  if (!known) {
    throw InputError(
        concat(input.source, ": feed_forward_proj '", name,
               "' is not supported; supported, also behind 'gated-': ", mlp_activation_names()));
  }
  shape.activation = *known;
  // transformers also writes what follows from it.
  const auto dense = json_member_or<std::string>(config, "dense_act_fn", activation, input.source);
  const bool is_gated = json_member_or<bool>(config, "is_gated_act", shape.gated, input.source);
  if (mlp_activation(dense) != known || is_gated != shape.gated) {
    throw InputError(concat(input.source, ": feed_forward_proj '", name, "' contradicts ",
                            is_gated != shape.gated ? "is_gated_act" : "dense_act_fn", " (",
                            is_gated != shape.gated ? (is_gated ? "true" : "false") : dense, ")"));
  }
}

void read_positions(const ModelInput& input, T5Config& t5) {
  t5.position_buckets =
      read_size_or(input.config, "relative_attention_num_buckets", 32, input.source);
  t5.max_distance =
      read_size_or(input.config, "relative_attention_max_distance", 128, input.source);
  if (t5.position_buckets < 4) {
    throw InputError(concat(input.source, ": relative_attention_num_buckets must be at least 4, ",
                            "found ", t5.position_buckets));
  }
  if (t5.max_distance <= t5.position_buckets / 2) {
    throw InputError(concat(input.source, ": relative_attention_max_distance (", t5.max_distance,
                            ") must be larger than half of relative_attention_num_buckets (",
                            t5.position_buckets, ")"));
  }
}

// transformers 5 writes an untied head as "tied, not scaled": whether the file holds one decides.
void read_head(const ModelInput& input, const T5Defaults& defaults, T5Config& t5) {
  const auto has = [&](const char* name) { return input.has_tensor && input.has_tensor(name); };
  const bool tied = json_member_or<bool>(input.config, "tie_word_embeddings", true, input.source);
  t5.scaled_head = json_member_or<bool>(input.config, "scale_decoder_outputs",
                                        tied && defaults.scaled_head, input.source);
  t5.own_head = !tied || (!t5.scaled_head && has("lm_head.weight"));
  t5.embedding = "shared";
  // Files that name each shared tensor once may have taken another of its names.
  for (const char* alias : {"encoder.embed_tokens", "decoder.embed_tokens"}) {
    if (!has("shared.weight") && t5.embedding == "shared" && has(concat(alias, ".weight").c_str()))
      t5.embedding = alias;
  }
}

T5Config read_config(const ModelInput& input, const T5Defaults& defaults) {
  const Json& config = input.config;
  T5Config t5;
  EncoderDecoderShape& shape = t5.shape;
  shape.hidden = read_size(config, "d_model", input.source);
  shape.vocabulary = read_size(config, "vocab_size", input.source);
  shape.encoder.layers = read_layers(config, "num_layers", input.source);
  shape.encoder.heads = read_size(config, "num_heads", input.source);
  shape.encoder.head_dim = read_size(config, "d_kv", input.source);
  shape.encoder.intermediate = read_size(config, "d_ff", input.source);
  shape.decoder = shape.encoder;
  const auto decoder_layers = config.find("num_decoder_layers");
  if (decoder_layers != config.end() && !decoder_layers->is_null()) {
    shape.decoder.layers = read_layers(config, "num_decoder_layers", input.source);
  }
  shape.norm_epsilon = json_member_or<double>(config, "layer_norm_epsilon", 1e-6, input.source);
  if (!(shape.norm_epsilon >= 0.0) || !std::isfinite(shape.norm_epsilon)) {
    throw InputError(concat(input.source, ": layer_norm_epsilon must not be negative, found ",
                            shape.norm_epsilon));
  }
  shape.projections = {"q", "k", "v", "o"};
  read_feed_forward(input, defaults, shape);
  read_positions(input, t5);
  read_head(input, defaults, t5);
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
  family.make = [](const ModelInput& input) { return make_t5(input, {"gated-gelu", false}); };
  family.published = {{"mT5", R"({"d_model": 512, "d_kv": 64, "num_heads": 6, "d_ff": 1024,
            "vocab_size": 250112, "num_layers": 1, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": false})"}};
  return family;
}

}  // namespace halftone
