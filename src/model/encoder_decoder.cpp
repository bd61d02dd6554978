#include "model/encoder_decoder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

struct NamedActivation {
  const char* name;
  Activation activation;
};
constexpr NamedActivation kActivations[] = {
    {"relu", Activation::kRelu},         {"gelu", Activation::kGelu},
    {"gelu_new", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"silu", Activation::kSilu},         {"swish", Activation::kSilu},
};

// Order of an attention block's linears; the decoder's second block and the MLP follow the first.
enum Projection : size_t { kQ, kK, kV, kO, kProjections };

at::Tensor run(const StageSpec& stage, size_t site, const StageWeights& weights,
               const at::Tensor& x, LinearRunner& runner) {
  const LinearSite& linear = stage.linears[site];
  return runner.linear(site, x, weights.at(linear.weight), weights.get(linear.bias));
}

struct Attention {
  size_t site = 0;      // in the stage's attentions
  at::Tensor mask;      // as EncoderDecoderModel::self_mask says
  bool causal = false;  // where there is no mask
  bool padded = false;  // padding in the mask: a query may see nothing
  double scale = 1.0;
};

// A query that sees nothing gets 0 on every device (calibration.md, 1.4).
at::Tensor without_blind_queries(const at::Tensor& out_BHTD, const at::Tensor& mask) {
  const at::Tensor seen = mask.scalar_type() == at::kBool ? mask : mask.isneginf().logical_not();
  return out_BHTD.masked_fill(seen.any(-1, /*keepdim=*/true).logical_not(), 0.0);
}

// Queries of x_BTH on keys and values of memory_BSH.
at::Tensor attend(const StageSpec& stage, const Attention& attention, const StageWeights& weights,
                  const at::Tensor& x_BTH, const at::Tensor& memory_BSH, LinearRunner& runner) {
  const int64_t head_dim = stage.attentions[attention.site].key_dim;
  const size_t first = attention.site * kProjections;
  const auto heads = [&](size_t projection, const at::Tensor& input) {
    const at::Tensor out = run(stage, first + projection, weights, input, runner);
    return out.view({out.size(0), out.size(1), -1, head_dim}).transpose(1, 2);
  };
  const at::Tensor q_BHTD = heads(kQ, x_BTH);
  const at::Tensor k_BHSD = heads(kK, memory_BSH);
  const at::Tensor v_BHSD = heads(kV, memory_BSH);
  const auto [k_cached, v_cached] = runner.key_value(attention.site, k_BHSD, v_BHSD);
  const std::optional<at::Tensor> mask =
      attention.mask.defined() ? std::optional<at::Tensor>(attention.mask) : std::nullopt;
  at::Tensor out_BHTD =
      at::scaled_dot_product_attention(q_BHTD, k_cached, v_cached, mask, /*dropout_p=*/0.0,
                                       !mask && attention.causal, attention.scale);
  if (mask && attention.padded) out_BHTD = without_blind_queries(out_BHTD, *mask);
  const at::Tensor joined_BTK =
      out_BHTD.transpose(1, 2).contiguous().view({x_BTH.size(0), x_BTH.size(1), -1});
  return run(stage, first + kO, weights, joined_BTK, runner);
}

// x + y; what overflows in fp16 stays finite, as in transformers' models.
at::Tensor add_residual(const at::Tensor& x, const at::Tensor& y) {
  const at::Tensor sum = x + y;
  if (sum.scalar_type() != at::kHalf) return sum;
  constexpr double kLimit = 65504.0 - 1000.0;
  return sum.clamp(-kLimit, kLimit);
}

void add_linear(StageSpec& stage, const std::string& module, int64_t out, int64_t in, bool bias) {
  LinearSite site;
  site.name = module;
  site.out = out;
  site.in = in;
  site.weight = module + ".weight";
  if (bias) site.bias = module + ".bias";
  stage.tensors.push_back({site.weight, {out, in}});
  if (bias) stage.tensors.push_back({site.bias, {out}});
  stage.linears.push_back(std::move(site));
}

int next_group(const StageSpec& stage) {
  int group = 0;
  for (const LinearSite& linear : stage.linears) group = std::max(group, linear.fused_group + 1);
  return group;
}

}  // namespace

std::optional<Activation> activation_named(const std::string& name) {
  for (const NamedActivation& one : kActivations) {
    if (name == one.name) return one.activation;
  }
  return std::nullopt;
}

std::string activation_names() {
  std::string names;
  for (const NamedActivation& one : kActivations)
    names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}

void EncoderDecoderModel::make_stages(StageSpec encoder_embedding, StageSpec decoder_embedding,
                                      StageSpec head) {
  const auto add = [this](StageSpec stage, LayerModules modules) {
    stages_.push_back(std::move(stage));
    modules_.push_back(std::move(modules));
  };
  const auto add_layers = [&](Stack stack) {
    for (int64_t layer = 0; layer < shape_.of(stack).layers; ++layer) {
      add(layer_stage(stack, layer), layer_modules(stack, layer));
    }
  };
  encoder_embedding.name = "encoder embedding";
  encoder_embedding.kind = StageKind::kEmbedding;
  add(std::move(encoder_embedding), {});
  add_layers(Stack::kEncoder);
  decoder_embedding.name = "decoder embedding";
  decoder_embedding.kind = StageKind::kEmbedding;
  add_norm(decoder_embedding, final_norm(Stack::kEncoder), -1);
  add(std::move(decoder_embedding), {});
  add_layers(Stack::kDecoder);
  head.name = "head";
  head.kind = StageKind::kHead;
  add_norm(head, final_norm(Stack::kDecoder), -1);
  add(std::move(head), {});
}

StageSpec EncoderDecoderModel::layer_stage(Stack stack, int64_t layer) const {
  const bool encoder = stack == Stack::kEncoder;
  const StackShape& shape = shape_.of(stack);
  const LayerModules modules = layer_modules(stack, layer);
  StageSpec stage;
  stage.name = concat(encoder ? "encoder" : "decoder", " layer ", layer);
  stage.kind = StageKind::kLayer;
  add_norm(stage, modules.self_norm, /*fused_group=*/0);
  add_attention(stage, modules.self_attention, encoder ? "attention" : "self_attention", shape,
                encoder, /*cross=*/false);
  if (!modules.position_bias.empty()) {
    stage.tensors.push_back(
        {modules.position_bias + ".weight", {modules.position_buckets, shape.heads}});
    if (layer == 0) stage.plain_modules.push_back(modules.position_bias);
  }
  if (!encoder) {
    add_norm(stage, modules.cross_norm, -1);
    add_attention(stage, modules.cross_attention, "cross_attention", shape, encoder,
                  /*cross=*/true);
  }
  add_norm(stage, modules.mlp_norm, shape_.gated ? next_group(stage) : -1);
  add_mlp(stage, modules, shape, encoder);
  return stage;
}

// Cross attention has keys and values of the encoder's output: they are merged, its queries are
// read from another tensor.
void EncoderDecoderModel::add_attention(StageSpec& stage, const std::string& module,
                                        const std::string& trtllm, const StackShape& stack,
                                        bool of_encoder, bool cross) const {
  const size_t first = stage.linears.size();
  const int group = next_group(stage);
  const int64_t inner = stack.heads * stack.head_dim;
  for (size_t i = 0; i < kProjections; ++i) {
    const bool out = i == kO;
    add_linear(stage, module + "." + shape_.projections[i], out ? shape_.hidden : inner,
               out ? inner : shape_.hidden, shape_.projection_biases[i]);
    LinearSite& site = stage.linears.back();
    const bool of_memory = i == kK || i == kV;
    site.shard = out ? ShardAxis::kInput : ShardAxis::kOutput;
    site.trtllm = trtllm + (out ? ".dense" : ".qkv");
    site.of_encoder = of_encoder || (cross && of_memory);
    if (of_memory || (i == kQ && !cross)) site.fused_group = group;
  }
  stage.linears[first + kO].previous = static_cast<int>(first + kV);
  AttentionSite attention{module, stack.heads, stack.head_dim, stack.head_dim};
  attention.of_encoder = of_encoder || cross;
  stage.attentions.push_back(std::move(attention));
}

void EncoderDecoderModel::add_mlp(StageSpec& stage, const LayerModules& modules,
                                  const StackShape& stack, bool of_encoder) const {
  const size_t first = stage.linears.size();
  const int group = next_group(stage);
  const size_t count = modules.mlp.size();
  for (size_t i = 0; i < count; ++i) {
    const bool out = i + 1 == count;
    add_linear(stage, modules.mlp[i], out ? shape_.hidden : stack.intermediate,
               out ? stack.intermediate : shape_.hidden, shape_.mlp_bias);
    LinearSite& site = stage.linears.back();
    site.shard = out ? ShardAxis::kInput : ShardAxis::kOutput;
    site.trtllm = out ? "mlp.proj" : i == 0 ? "mlp.fc" : "mlp.gate";
    site.of_encoder = of_encoder;
    if (shape_.gated && !out) site.fused_group = group;
  }
  // The second one only multiplies what the activation gives.
  if (shape_.gated) stage.linears[first + 2].previous = static_cast<int>(first + 1);
}

void EncoderDecoderModel::add_norm(StageSpec& stage, const std::string& module,
                                   int fused_group) const {
  const std::string bias = shape_.layer_norm ? module + ".bias" : "";
  stage.tensors.push_back({module + ".weight", {shape_.hidden}});
  if (!bias.empty()) stage.tensors.push_back({bias, {shape_.hidden}});
  if (fused_group >= 0) stage.norms.push_back({module + ".weight", bias, fused_group, false});
}

at::Tensor EncoderDecoderModel::encoder_mask(const BatchContext& batch, at::Device device) {
  if (!batch.encoder_padded) return {};
  const auto rows = static_cast<int64_t>(batch.encoder_tokens.size());
  at::Tensor real_BS = at::zeros({rows, batch.encoder_length}, at::kBool);
  for (int64_t row = 0; row < rows; ++row) {
    const TokenRange& range = batch.encoder_tokens[static_cast<size_t>(row)];
    real_BS[row].slice(0, range.begin, range.end).fill_(true);
  }
  return real_BS.to(device).unsqueeze(1).unsqueeze(1);
}

at::Tensor EncoderDecoderModel::norm(const std::string& module, const StageWeights& weights,
                                     const at::Tensor& x_BTH) const {
  const at::Tensor& weight_H = weights.at(module + ".weight");
  if (!shape_.layer_norm) return rms_norm(x_BTH, weight_H, shape_.norm_epsilon);
  return layer_norm(x_BTH, weight_H, weights.at(module + ".bias"), shape_.norm_epsilon);
}

States EncoderDecoderModel::forward(size_t stage, const StagePart& /*part*/,
                                    const StageWeights& weights, States states,
                                    const BatchContext& batch, LinearRunner& runner) const {
  const auto decoder_embedding = static_cast<size_t>(shape_.encoder.layers) + 1;
  if (stage == 0) {
    states.encoder = embed_encoder(weights, states.encoder);
  } else if (stage < decoder_embedding) {
    states.encoder = layer(Stack::kEncoder, stage, weights, states, batch, runner);
  } else if (stage == decoder_embedding) {
    states.encoder = norm(final_norm(Stack::kEncoder), weights, states.encoder);
    states.x = embed_decoder(weights, states.x);
  } else if (stage + 1 < stages_.size()) {
    states.x = layer(Stack::kDecoder, stage, weights, states, batch, runner);
  } else {
    at::Tensor x_BTH = norm(final_norm(Stack::kDecoder), weights, states.x);
    if (head_scale() != 1.0) x_BTH = x_BTH * head_scale();
    states.x = run(stages_[stage], 0, weights, x_BTH, runner);
  }
  return states;
}

at::Tensor EncoderDecoderModel::layer(Stack stack, size_t stage, const StageWeights& weights,
                                      const States& states, const BatchContext& batch,
                                      LinearRunner& runner) const {
  const StageSpec& spec = stages_[stage];
  const LayerModules& modules = modules_[stage];
  const bool decoder = stack == Stack::kDecoder;
  const double scale = shape_.of(stack).attention_scale;
  at::Tensor x_BTH = decoder ? states.x : states.encoder;
  const at::Tensor normed_BTH = norm(modules.self_norm, weights, x_BTH);
  const Attention self{0, self_mask(stack, weights, x_BTH, batch), decoder,
                       decoder ? batch.padded : batch.encoder_padded, scale};
  x_BTH = add_residual(x_BTH, attend(spec, self, weights, normed_BTH, normed_BTH, runner));
  if (decoder) {
    const Attention cross{1, encoder_mask(batch, x_BTH.device()), false, batch.encoder_padded,
                          scale};
    x_BTH =
        add_residual(x_BTH, attend(spec, cross, weights, norm(modules.cross_norm, weights, x_BTH),
                                   states.encoder, runner));
  }
  const size_t mlp = spec.attentions.size() * kProjections;
  const at::Tensor mlp_input_BTH = norm(modules.mlp_norm, weights, x_BTH);
  at::Tensor inner_BTI =
      activate(run(spec, mlp, weights, mlp_input_BTH, runner), shape_.activation);
  if (shape_.gated) inner_BTI = inner_BTI * run(spec, mlp + 1, weights, mlp_input_BTH, runner);
  const at::Tensor out_BTH = run(spec, spec.linears.size() - 1, weights, inner_BTI, runner);
  return add_residual(x_BTH, out_BTH);
}

}  // namespace halftone
