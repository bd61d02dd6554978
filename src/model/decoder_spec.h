#pragma once

#include <string>
#include <utility>
#include <vector>

#include "model/blocks.h"
#include "model/routers.h"

namespace halftone {

// A decoder-only model in words: what a family's file reads config.json into and everything else
// (stages, names, forward pass) follows from.

struct AttentionSpec {
  enum class Kind {
    kHeads,   // q, k and v heads, the keys' perhaps fewer
    kLatent,  // DeepSeek's MLA: low-rank queries, keys and values
    kLinear,  // one matrix in its place
    kNone,    // absent with its norm
  };
  enum class HeadNorm { kNone, kWeighted, kL2BehindRope };

  Kind kind = Kind::kHeads;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // of queries and keys
  double scale = 0.0;    // of the scores
  int rope = 0;          // of DecoderSpec::ropes; -1: none
  AttentionReach reach = {};
  bool fused_qkv = false;  // one tensor on disk, rows of q, k and v
  bool qkv_bias = false;
  bool o_bias = false;
  HeadNorm head_norm = HeadNorm::kNone;
  bool sinks = false;
  // Queries times 1 + temperature * ln(1 + floor((position + 1) / temperature_floor)); 0: not.
  double temperature = 0.0;
  double temperature_floor = 1.0;
  // kLatent
  int64_t q_rank = 0;  // 0: queries straight from the input
  int64_t kv_rank = 0;
  int64_t rope_dim = 0;  // of head_dim; the rest does not rotate
  int64_t value_dim = 0;
  bool a_bias = false;
};

// Routed experts, and what goes with them.
struct ExpertsSpec {
  // How checkpoints keep the experts' weights.
  enum class Storage {
    kSeparate,  // experts.E.gate_proj.weight
    kStacked,   // experts.gate_up_proj [E, in, out]
  };
  enum class Gate {
    kPlain,        // activation(gate) * up
    kInterleaved,  // gpt-oss: gate and up in turn, clamped to `limit`
  };
  RouterSpec router;
  int64_t intermediate = 0;
  int64_t shared_intermediate = 0;  // 0: no shared expert
  Storage storage = Storage::kSeparate;
  Gate gate = Gate::kPlain;
  double limit = 0.0;
  bool bias = false;
  bool router_bias = false;
  bool correction_bias = false;  // e_score_correction_bias, in the checkpoint's dtype
  bool weighs_input = false;     // the router's weight multiplies the expert's input
  bool averages_scales = true;   // StageSpec::averages_expert_scales
  // Names of modules in the block.
  std::string router_name = "gate";
  std::string shared_name = "shared_expert";
  std::string shared_gate_name = {};  // empty: the shared expert is added as it is
  std::vector<std::string> linears = {"gate_proj", "up_proj", "down_proj"};
};

struct FeedForwardSpec {
  enum class Kind { kGated, kExperts, kLinear, kNone };

  Kind kind = Kind::kGated;
  std::string name = "mlp";  // of the module in the layer
  int64_t intermediate = 0;
  Activation activation = Activation::kSilu;
  bool fused_gate_up = false;  // one tensor on disk, rows of gate and up
  bool bias = false;
  ExpertsSpec experts = {};
};

struct LayerSpec {
  AttentionSpec attention;
  FeedForwardSpec feed_forward;
};

struct RopeSpec {
  RopeConfig config;
  int64_t dim = 0;
  RopeLayout layout = RopeLayout::kHalves;
};

struct DecoderSpec {
  std::string model = "model.";  // prefix of everything but the head
  std::string head = "lm_head";
  int64_t hidden = 0;
  int64_t vocabulary = 0;
  int64_t max_positions = 0;
  NormKind norm = NormKind::kRms;
  double epsilon = 1e-6;
  // Gemma: norms behind attention and feed-forward too, before their sums.
  bool norms_behind = false;
  double embedding_scale = 1.0;
  double logit_cap = 0.0;  // cap * tanh(logits / cap); 0: none
  bool tied = false;
  bool head_bias = false;
  // Exporters fold scales of o_proj into v_proj and of down_proj into up_proj
  // (formats-and-hf-export.md, 3.3.4).
  bool folds_into_previous = false;
  bool trtllm = false;  // the family has names in TensorRT-LLM checkpoints
  std::vector<RopeSpec> ropes;
  std::vector<LayerSpec> layers;
  int64_t next_token_layers = 0;  // behind the others in the checkpoint
  std::vector<std::string> carried_prefixes = {};
};

}  // namespace halftone
