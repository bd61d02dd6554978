#pragma once

#include <ATen/core/Tensor.h>

#include <climits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "io/checkpoint.h"
#include "model/stage.h"

namespace halftone {

// What a stage needs to know of the batch that passes through it.
struct BatchContext {
  // Real tokens of each row, counted with the cache's (`past`). Of the decoder where there is an
  // encoder too.
  std::vector<TokenRange> tokens;
  int64_t length = 0;
  bool padded = false;
  // Generation: the positions in front of these whose keys and values lie in a cache.
  int64_t past = 0;
  // Where each position stands in its row, int64 [B, T]; undefined: past .. past + length - 1 in
  // every row, padding included.
  at::Tensor positions_BT = {};
  // Of each row's whole sequence where it comes in pieces; empty: past + length.
  std::vector<int64_t> sequence_lengths = {};
  // The encoder's sequence; empty for decoder-only models.
  std::vector<TokenRange> encoder_tokens = {};
  int64_t encoder_length = 0;
  bool encoder_padded = false;
  // Padded positions go to experts too: their inputs count in statistics.
  bool route_padding = false;
  // Calibration: each token also feeds the statistics of the experts it likes best up to this share
  // of all; what the layer computes does not change. 0: only those it is routed to.
  double observed_experts = 0.0;
};

// What a layer's groups of experts hand on to each other.
struct ExpertStates {
  at::Tensor x_TH;          // the experts' input, one row a routed token
  at::Tensor positions_T;   // of those rows among all B * T positions; undefined: all of them
  at::Tensor ids_TK;        // chosen experts (int64), and as many more as only observe
  at::Tensor weights_TK;    // 0 for those, unless weights multiply the experts' input
  at::Tensor residual_BTH;  // what the experts' sum is added to
  at::Tensor shared_BTH;    // what a shared expert adds to it; undefined: none
  at::Tensor sum_TH;        // F32
};

// What a batch carries from stage to stage.
struct States {
  at::Tensor x;        // input ids [B, T] (int64), then hidden [B, T, H], then logits [B, T, V]
  at::Tensor encoder;  // the same of an encoder: ids or features, then hidden; undefined: none
  ExpertStates experts = {};
};

// The part of a stage that one call computes: a layer's experts may be taken in groups, so that
// only one group's weights are in memory. A whole stage is its only part.
struct StagePart {
  bool first = true;  // everything before the experts
  bool last = true;   // everything behind them
  int64_t expert_begin = 0;
  int64_t expert_end = INT64_MAX;

  bool whole() const { return first && last; }
};

// A model as a list of stages. Immutable after prepare(), so batches may run concurrently.
class Model {
 public:
  virtual ~Model() = default;

  virtual const std::vector<StageSpec>& stages() const = 0;
  virtual int64_t hidden_size() const = 0;
  virtual int64_t vocabulary() const = 0;
  virtual int64_t max_positions() const = 0;
  // All positions of a sequence longer than this turn differently from those of a shorter one, so a
  // sequence that grows beyond it cannot use the keys in its cache (longrope).
  virtual int64_t position_break() const { return INT64_MAX; }
  // Names of tensors that a tied checkpoint may hold although the model does not read them, each
  // with the tensor that it equals.
  virtual std::vector<std::pair<std::string, std::string>> tied_tensors() const = 0;
  // Prefixes of tensors that the model does not read but that belong to its checkpoints (vision
  // towers): copied without a warning.
  virtual std::vector<std::string> carried_prefixes() const { return {}; }
  // The same of layers that predict further tokens: engines find them among the unquantized ones.
  virtual std::vector<std::string> next_token_prefixes() const { return {}; }
  // "model.layers." and how many there are, next-token layers included: a tensor of a further one
  // contradicts the configuration.
  virtual std::vector<std::pair<std::string, int64_t>> numbered_prefixes() const { return {}; }
  // Whether batches carry an encoder's input beside the decoder's.
  virtual bool has_encoder() const { return false; }

  // Whether the encoder reads log-mel frames of sound.
  virtual bool hears_sound() const { return false; }

  // Makes the tables (rotary embedding) for sequences of up to `length` tokens.
  virtual void prepare(int64_t length, at::ScalarType dtype, at::Device device) = 0;
  virtual States forward(size_t stage, const StagePart& part, const StageWeights& weights,
                         States states, const BatchContext& batch, LinearRunner& runner) const = 0;
};

// The dtype that config.json gives ("dtype" or "torch_dtype"); of the first floating tensor when it
// says nothing.
DType model_dtype(const Checkpoint& checkpoint);

}  // namespace halftone
