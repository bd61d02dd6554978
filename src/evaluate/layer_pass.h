#pragma once

#include <string>
#include <vector>

#include "engine/batch_pass.h"
#include "engine/weight_source.h"

namespace halftone {

struct LayerPassOptions {
  DType compute_dtype = DType::kBF16;
  int64_t stage_limit = INT64_MAX;  // plan_loads
  bool show_progress = true;
  HeldWeights* held = nullptr;  // StageLoader
};

// A row of one of this rank's batches.
class RowPlace {
 public:
  // Where it has its real tokens.
  TokenRange tokens() const { return tokens_; }

 private:
  friend class LayerPass;
  int64_t batch_ = 0;
  size_t position_ = 0;  // among this rank's batches
  int64_t row_ = 0;      // of the batch
  TokenRange tokens_;
};

// A model's forward pass over batches up to the head, and then its logits, piece by piece: what
// tasks that compare logits with the batches' own tokens have in common.
class LayerPass {
 public:
  // Takes all batches through all layers and loads the head. `batches` outlive this. `title` names
  // the work in progress and errors. Collective.
  LayerPass(const Checkpoint& checkpoint, Model& model, WeightSource& source,
            const std::vector<Batch>& batches, const LayerPassOptions& options,
            const Cluster& cluster, const std::string& title);

  // Calls body(row, place) for all rows of this rank's batches, batches concurrently on the CPU;
  // `row` counts the rows of all batches in order.
  void for_each_row(const std::function<void(size_t row, const RowPlace& place)>& body) const;
  // F32 [end - begin, V]: the logits behind the row's positions [begin, end).
  at::Tensor logits(const RowPlace& place, int64_t begin, int64_t end) const;
  // int64 [end - begin] on the device: the row's ids there.
  at::Tensor ids(const RowPlace& place, int64_t begin, int64_t end) const;
  // How many positions' logits to ask for at a time.
  int64_t piece() const;

 private:
  void run_layers(const Checkpoint& checkpoint, const LayerPassOptions& options,
                  const std::string& title);

  Model& model_;
  WeightSource& source_;
  const std::vector<Batch>& batches_;
  Cluster cluster_;
  at::ScalarType dtype_;
  BatchPass pass_;
  std::vector<size_t> first_row_;  // of each batch
  StageWeights head_;
};

// Rows of all batches together.
int64_t rows_of(const std::vector<Batch>& batches);

}  // namespace halftone
