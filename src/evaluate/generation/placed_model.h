#pragma once

#include <vector>

#include "engine/weight_source.h"
#include "evaluate/generation/kv_cache.h"

namespace halftone {

// The keys and values of some rows, by stage; those of other ranks' stages stay empty.
using KvCaches = std::vector<KvCache>;

// A decoder-only model whose stages lie on the ranks one behind the other, each stage's weights on
// one rank for as long as this object lives; hidden states go from rank to rank. Every call is
// collective, with equal arguments on all ranks, and gives all of them the same.
class PlacedModel {
 public:
  // Loads the weights. `length`: of the longest sequence, at most the model's max_positions().
  // @throws UsageError for models with an encoder.
  PlacedModel(const Checkpoint& checkpoint, Model& model, WeightSource& source, DType compute_dtype,
              int64_t length, const Cluster& cluster);

  int64_t vocabulary() const { return model_.vocabulary(); }
  int64_t length() const { return length_; }
  int64_t position_break() const { return model_.position_break(); }
  KvCaches make_caches() const { return KvCaches(model_.stages().size()); }

  // F32 [B, T, V] in host memory: the logits behind each position of ids_BT (int64, in host
  // memory); with `last`, of the last position alone: [B, 1, V]. `context` says where they stand;
  // `caches` take their keys and values behind its `past` ones.
  at::Tensor logits(const at::Tensor& ids_BT, const BatchContext& context, KvCaches& caches,
                    bool last);

 private:
  struct Part {
    StagePart part;
    StageWeights weights;
  };
  void load(const Checkpoint& checkpoint);
  void keep(const LoadStep& step, const LoadedStage& loaded);
  at::Tensor run_stage(size_t stage, const at::Tensor& x, const BatchContext& context,
                       KvCaches& caches) const;

  Model& model_;
  WeightSource& source_;
  Cluster cluster_;
  at::ScalarType dtype_;
  int64_t length_;
  std::vector<int> rank_of_;               // of each stage, ascending
  std::vector<std::vector<Part>> stages_;  // empty where another rank has them
};

}  // namespace halftone
