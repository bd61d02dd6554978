// Llama 2 and 3.x: RMS norms, grouped-query attention with rotary embedding, gated SiLU MLP.
#include <ATen/ATen.h>

#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "model/blocks.h"
#include "model/families/families.h"

namespace halftone {
namespace {

struct LlamaConfig {
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocabulary = 0;
  int64_t max_positions = 0;
  double norm_epsilon = 1e-6;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied = false;
  RopeConfig rope;
};

constexpr int64_t kMaxLayers = 10000;
// Far beyond every model; products of two sizes stay below 2^63.
constexpr int64_t kMaxSize = int64_t{1} << 30;

int64_t size_member(const Json& config, const char* key, const std::string& source) {
  const auto value = json_member<int64_t>(config, key, source);
  if (value < 1 || value > kMaxSize) {
    throw InputError(concat(source, ": '", key, "' must be 1 to ", kMaxSize, ", found ", value));
  }
  return value;
}

LlamaConfig read_config(const Json& config, const std::string& source) {
  LlamaConfig llama;
  llama.hidden = size_member(config, "hidden_size", source);
  llama.intermediate = size_member(config, "intermediate_size", source);
  llama.layers = size_member(config, "num_hidden_layers", source);
  if (llama.layers > kMaxLayers) {
    throw InputError(concat(source, ": 'num_hidden_layers' is ", llama.layers, "; at most ",
                            kMaxLayers, " are supported"));
  }
  llama.heads = size_member(config, "num_attention_heads", source);
  const auto optional_size = [&](const char* key, int64_t fallback) {
    const auto found = config.find(key);
    return found == config.end() || found->is_null() ? fallback : size_member(config, key, source);
  };
  llama.kv_heads = optional_size("num_key_value_heads", llama.heads);
  llama.head_dim = optional_size("head_dim", llama.hidden / llama.heads);
  llama.vocabulary = size_member(config, "vocab_size", source);
  llama.max_positions = optional_size("max_position_embeddings", 2048);
  llama.norm_epsilon = json_member_or<double>(config, "rms_norm_eps", 1e-6, source);
  llama.attention_bias = json_member_or<bool>(config, "attention_bias", false, source);
  llama.mlp_bias = json_member_or<bool>(config, "mlp_bias", false, source);
  llama.tied = json_member_or<bool>(config, "tie_word_embeddings", false, source);
  llama.rope = read_rope(config, source);
  const auto activation = json_member_or<std::string>(config, "hidden_act", "silu", source);
  if (activation != "silu") {
    throw InputError(
        concat(source, ": hidden_act '", activation, "' is not supported; ", "supported: silu"));
  }
  if (llama.heads % llama.kv_heads != 0) {
    throw InputError(concat(source, ": num_attention_heads (", llama.heads,
                            ") must be a multiple of num_key_value_heads (", llama.kv_heads, ")"));
  }
  if (llama.head_dim < 1 || llama.head_dim % 2 != 0) {
    throw InputError(concat(source, ": head_dim (or hidden_size / num_attention_heads) must be ",
                            "even and positive, found ", llama.head_dim));
  }
  if (!(llama.norm_epsilon >= 0.0)) {
    throw InputError(
        concat(source, ": rms_norm_eps must not be negative, found ", llama.norm_epsilon));
  }
  return llama;
}

// Indices of a layer's linears; the order of make_layer().
enum Linear : size_t { kQ, kK, kV, kO, kGate, kUp, kDown };

class LlamaModel : public Model {
 public:
  explicit LlamaModel(const LlamaConfig& config) : config_(config) {
    stages_.push_back({"embedding",
                       StageKind::kEmbedding,
                       {{kEmbedding, {config.vocabulary, config.hidden}}},
                       {},
                       {},
                       {}});
    for (int64_t layer = 0; layer < config.layers; ++layer) stages_.push_back(make_layer(layer));
    stages_.push_back(make_head());
  }

  const std::vector<StageSpec>& stages() const override { return stages_; }
  int64_t hidden_size() const override { return config_.hidden; }
  int64_t vocabulary() const override { return config_.vocabulary; }
  int64_t max_positions() const override { return config_.max_positions; }

  std::vector<std::pair<std::string, std::string>> tied_tensors() const override {
    if (!config_.tied) return {};
    return {{"lm_head.weight", kEmbedding}};
  }

  void prepare(int64_t length, at::ScalarType dtype, at::Device device) override {
    rope_ = make_rope(config_.rope, config_.head_dim, length, dtype, device);
  }

  States forward(size_t stage, const StagePart& /*part*/, const StageWeights& weights,
                 States states, const BatchContext& batch, LinearRunner& runner) const override {
    switch (stages_[stage].kind) {
      case StageKind::kEmbedding:
        states.x = at::embedding(weights.at(kEmbedding), states.x);
        break;
      case StageKind::kLayer:
        states.x = layer(stages_[stage], weights, states.x, batch, runner);
        break;
      case StageKind::kHead: {
        const at::Tensor x_BTH =
            rms_norm(states.x, weights.at("model.norm.weight"), config_.norm_epsilon);
        states.x = run(stages_[stage], 0, weights, x_BTH, runner);
        break;
      }
    }
    return states;
  }

 private:
  static constexpr const char* kEmbedding = "model.embed_tokens.weight";

  StageSpec make_layer(int64_t index) const {
    StageSpec stage;
    const std::string prefix = concat("model.layers.", index);
    const std::string attention = prefix + ".self_attn";
    const std::string mlp = prefix + ".mlp";
    const int64_t q_size = config_.heads * config_.head_dim;
    const int64_t kv_size = config_.kv_heads * config_.head_dim;
    const auto add_linear = [&](const std::string& name, int64_t out, int64_t in, bool bias,
                                int group) {
      LinearSite linear{name, out, in, name + ".weight", bias ? name + ".bias" : "", group,
                        -1,   -1,  {}};
      stage.linears.push_back(std::move(linear));
      stage.tensors.push_back({name + ".weight", {out, in}});
      if (bias) stage.tensors.push_back({name + ".bias", {out}});
    };
    stage.name = concat("layer ", index);
    stage.kind = StageKind::kLayer;
    stage.attentions = {{attention, config_.kv_heads, config_.head_dim, config_.head_dim}};
    const bool bias = config_.attention_bias;
    add_linear(attention + ".q_proj", q_size, config_.hidden, bias, 0);
    add_linear(attention + ".k_proj", kv_size, config_.hidden, bias, 0);
    add_linear(attention + ".v_proj", kv_size, config_.hidden, bias, 0);
    add_linear(attention + ".o_proj", config_.hidden, q_size, bias, -1);
    add_linear(mlp + ".gate_proj", config_.intermediate, config_.hidden, config_.mlp_bias, 1);
    add_linear(mlp + ".up_proj", config_.intermediate, config_.hidden, config_.mlp_bias, 1);
    add_linear(mlp + ".down_proj", config_.hidden, config_.intermediate, config_.mlp_bias, -1);
    stage.linears[kO].previous = kV;
    stage.linears[kDown].previous = kUp;
    stage.norms = {{prefix + ".input_layernorm.weight", "", 0, false},
                   {prefix + ".post_attention_layernorm.weight", "", 1, false}};
    stage.tensors.push_back({prefix + ".input_layernorm.weight", {config_.hidden}});
    stage.tensors.push_back({prefix + ".post_attention_layernorm.weight", {config_.hidden}});
    return stage;
  }

  StageSpec make_head() const {
    StageSpec stage;
    stage.name = "head";
    stage.kind = StageKind::kHead;
    const std::string weight = config_.tied ? kEmbedding : "lm_head.weight";
    stage.linears = {{"lm_head", config_.vocabulary, config_.hidden, weight, "", -1, -1, -1, {}}};
    stage.tensors = {{"model.norm.weight", {config_.hidden}},
                     {weight, {config_.vocabulary, config_.hidden}}};
    return stage;
  }

  static at::Tensor run(const StageSpec& stage, size_t site, const StageWeights& weights,
                        const at::Tensor& x, LinearRunner& runner) {
    const LinearSite& linear = stage.linears[site];
    return runner.linear(site, x, weights.at(linear.weight), weights.get(linear.bias));
  }

  at::Tensor layer(const StageSpec& stage, const StageWeights& weights, const at::Tensor& input,
                   const BatchContext& batch, LinearRunner& runner) const {
    const std::string prefix =
        stage.attentions[0].name.substr(0, stage.attentions[0].name.rfind('.'));
    const at::Tensor normed_BTH =
        rms_norm(input, weights.at(prefix + ".input_layernorm.weight"), config_.norm_epsilon);
    const at::Tensor hidden_BTH = input + self_attention(stage, weights, normed_BTH, batch, runner);
    const at::Tensor x_BTH = rms_norm(
        hidden_BTH, weights.at(prefix + ".post_attention_layernorm.weight"), config_.norm_epsilon);
    const at::Tensor gate_BTI = run(stage, kGate, weights, x_BTH, runner);
    const at::Tensor up_BTI = run(stage, kUp, weights, x_BTH, runner);
    return hidden_BTH + run(stage, kDown, weights, at::silu(gate_BTI) * up_BTI, runner);
  }

  at::Tensor self_attention(const StageSpec& stage, const StageWeights& weights,
                            const at::Tensor& x_BTH, const BatchContext& batch,
                            LinearRunner& runner) const {
    const int64_t rows = x_BTH.size(0);
    const int64_t length = x_BTH.size(1);
    const auto heads = [&](const at::Tensor& states) {
      return states.view({rows, length, -1, config_.head_dim}).transpose(1, 2);
    };
    const at::Tensor q_BHTD = apply_rope(heads(run(stage, kQ, weights, x_BTH, runner)), rope_);
    const at::Tensor k_BGTD = apply_rope(heads(run(stage, kK, weights, x_BTH, runner)), rope_);
    const at::Tensor v_BGTD = heads(run(stage, kV, weights, x_BTH, runner));
    const auto [k_cached, v_cached] = runner.key_value(0, k_BGTD, v_BGTD);
    const at::Tensor attended_BHTD =
        attention(q_BHTD, k_cached, v_cached, attention_mask(batch, x_BTH.device()),
                  1.0 / std::sqrt(static_cast<double>(config_.head_dim)));
    const at::Tensor joined_BTK =
        attended_BHTD.transpose(1, 2).contiguous().view({rows, length, -1});
    return run(stage, kO, weights, joined_BTK, runner);
  }

  LlamaConfig config_;
  std::vector<StageSpec> stages_;
  RopeTable rope_;
};

}  // namespace

Family llama_family() {
  return {"llama",
          {"LlamaForCausalLM"},
          "Llama 2, 3, 3.1, 3.2, 3.3 and models of their shape",
          [](const ModelInput& input) -> std::unique_ptr<Model> {
            return std::make_unique<LlamaModel>(read_config(input.config, input.source));
          }};
}

}  // namespace halftone
