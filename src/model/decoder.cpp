#include "model/decoder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "model/decoder_layer.h"

namespace halftone {
namespace {

// Far beyond every model; each expert has a description of its own.
constexpr int64_t kMaxExperts = int64_t{1} << 18;

class Decoder : public Model {
 public:
  Decoder(DecoderSpec spec, const ModelInput& input) : spec_(std::move(spec)) {
    for (const RopeSpec& rope : spec_.ropes) {
      ropes_.emplace_back(rope.config, rope.dim, rope.layout);
    }
    embedding_ = spec_.model + "embed_tokens";
    add_embedding();
    for (size_t i = 0; i < spec_.layers.size(); ++i) {
      const std::string prefix = concat(spec_.model, "layers.", i);
      StageBuilder builder(concat("layer ", i), StageKind::kLayer);
      layers_.emplace_back(spec_, spec_.layers[i], prefix, builder);
      stages_.push_back(builder.finish());
    }
    add_head();
    for (int64_t i = 0; i < spec_.next_token_layers; ++i) add_next_token_prefix(i, input);
  }

  const std::vector<StageSpec>& stages() const override { return stages_; }
  int64_t hidden_size() const override { return spec_.hidden; }
  int64_t vocabulary() const override { return spec_.vocabulary; }
  int64_t max_positions() const override { return spec_.max_positions; }
  int64_t position_break() const override {
    int64_t first = INT64_MAX;
    for (const Rope& rope : ropes_) first = std::min(first, rope.position_break());
    return first;
  }
  std::vector<std::string> carried_prefixes() const override { return spec_.carried_prefixes; }
  std::vector<std::string> next_token_prefixes() const override { return next_token_prefixes_; }

  std::vector<std::pair<std::string, std::string>> tied_tensors() const override {
    if (!spec_.tied) return {};
    return {{spec_.head + ".weight", embedding_ + ".weight"}};
  }

  std::vector<std::pair<std::string, int64_t>> numbered_prefixes() const override {
    const auto layers = static_cast<int64_t>(spec_.layers.size());
    std::vector<std::pair<std::string, int64_t>> prefixes = {
        {spec_.model + "layers.", layers + spec_.next_token_layers}};
    for (size_t i = 0; i < spec_.layers.size(); ++i) {
      const FeedForwardSpec& feed = spec_.layers[i].feed_forward;
      if (feed.kind != FeedForwardSpec::Kind::kExperts) continue;
      if (feed.experts.storage != ExpertsSpec::Storage::kSeparate) continue;
      prefixes.emplace_back(concat(spec_.model, "layers.", i, ".", feed.name, ".experts."),
                            feed.experts.router.experts);
    }
    return prefixes;
  }

  void prepare(int64_t length, at::ScalarType dtype, at::Device device) override {
    for (Rope& rope : ropes_) rope.prepare(length, dtype, device);
  }

  States forward(size_t stage, const StagePart& part, const StageWeights& weights, States states,
                 const BatchContext& batch, LinearRunner& runner) const override {
    const StageCall call{stages_[stage], weights, batch, runner};
    switch (stages_[stage].kind) {
      case StageKind::kEmbedding:
        states.x = at::embedding(weights.at(embedding_ + ".weight"), states.x);
        if (spec_.embedding_scale != 1.0) {
          // Rounded to the compute dtype before the product, as the published models have it.
          states.x = states.x * at::scalar_tensor(spec_.embedding_scale, states.x.options());
        }
        break;
      case StageKind::kLayer:
        layers_[stage - 1].forward(call, part, ropes_, states);
        break;
      case StageKind::kHead:
        states.x = call.linear(0, final_norm_(states.x, weights));
        if (spec_.logit_cap > 0.0) {
          states.x = at::tanh(states.x / spec_.logit_cap) * spec_.logit_cap;
        }
        break;
    }
    return states;
  }

 private:
  void add_embedding() {
    StageBuilder builder("embedding", StageKind::kEmbedding);
    builder.tensor({embedding_ + ".weight", {spec_.vocabulary, spec_.hidden}});
    builder.plain_module(embedding_);
    stages_.push_back(builder.finish());
  }

  void add_head() {
    StageSpec stage;
    stage.name = "head";
    stage.kind = StageKind::kHead;
    StageBuilder norms("head", StageKind::kHead);
    final_norm_ = norms.inner_norm({spec_.norm, spec_.epsilon}, spec_.model + "norm", spec_.hidden);
    stage.tensors = norms.finish().tensors;
    LinearSite head;
    head.name = spec_.head;
    head.out = spec_.vocabulary;
    head.in = spec_.hidden;
    head.weight = (spec_.tied ? embedding_ : spec_.head) + ".weight";
    head.shard = ShardAxis::kOutput;
    if (spec_.trtllm) head.trtllm = "lm_head";
    stage.tensors.push_back({head.weight, {spec_.vocabulary, spec_.hidden}});
    if (spec_.head_bias) {
      head.bias = spec_.head + ".bias";
      stage.tensors.push_back({head.bias, {spec_.vocabulary}});
    }
    stage.linears = {head};
    stages_.push_back(std::move(stage));
  }

  // Many configurations name layers that their checkpoints lack.
  void add_next_token_prefix(int64_t index, const ModelInput& input) {
    const std::string prefix =
        concat(spec_.model, "layers.", static_cast<int64_t>(spec_.layers.size()) + index, ".");
    bool present = !input.has_tensor;
    for (const char* tensor : {"eh_proj.weight", "enorm.weight", "input_layernorm.weight"}) {
      present = present || input.has_tensor(prefix + tensor);
    }
    if (present) next_token_prefixes_.push_back(prefix);
  }

  DecoderSpec spec_;
  std::string embedding_;  // the module
  std::vector<Rope> ropes_;
  std::vector<StageSpec> stages_;
  std::vector<DecoderLayer> layers_;
  Norm final_norm_;
  std::vector<std::string> next_token_prefixes_;
};

}  // namespace

std::unique_ptr<Model> make_decoder(DecoderSpec spec, const ModelInput& input) {
  int64_t experts = 0;
  for (const LayerSpec& layer : spec.layers) {
    const bool routed = layer.feed_forward.kind == FeedForwardSpec::Kind::kExperts;
    if (routed) experts += layer.feed_forward.experts.router.experts;
  }
  if (experts > kMaxExperts) {
    throw InputError(concat(input.source, ": there are ", experts, " experts in all layers; at ",
                            "most ", kMaxExperts, " are supported"));
  }
  return std::make_unique<Decoder>(std::move(spec), input);
}

}  // namespace halftone
