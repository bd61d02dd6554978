#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "engine/cluster.h"
#include "model/model.h"
#include "text/batches.h"

namespace halftone {

BatchContext context_of_batch(const Batch& batch);

// Layer-outer: keeps the hidden states of this rank's batches and takes them through one stage
// after the other. On the CPU batches run concurrently, each on one thread: what a batch computes
// does not depend on the number of threads or ranks.
class BatchPass {
 public:
  BatchPass(const Model& model, const std::vector<Batch>& batches, const Cluster& cluster);

  // Called for each batch of this rank: with its index among all batches.
  using MakeRunner = std::function<std::unique_ptr<LinearRunner>(int64_t batch)>;
  using OnDone = std::function<void(int64_t batch, LinearRunner& runner)>;
  // Replaces the hidden states by the stage's outputs. `on_done` is called in batch order
  // afterwards.
  void forward(size_t stage, const StageWeights& weights, const MakeRunner& make_runner,
               const OnDone& on_done = {});
  // The same, but the hidden states stay the stage's inputs.
  void rehearse(size_t stage, const StageWeights& weights, const MakeRunner& make_runner,
                const OnDone& on_done);

  // Calls body(batch, position) for this rank's batches, concurrently on the CPU.
  void for_each_batch(const std::function<void(int64_t batch, size_t position)>& body) const;

  const at::Tensor& hidden(size_t position) const { return hidden_[position]; }
  const BatchContext& context(int64_t batch) const { return contexts_[static_cast<size_t>(batch)]; }
  const std::vector<int64_t>& mine() const { return mine_; }

 private:
  void compute(size_t stage, const StageWeights& weights, const MakeRunner& make_runner,
               const OnDone& on_done, bool keep_outputs);

  const Model& model_;
  const std::vector<Batch>& batches_;
  Cluster cluster_;
  std::vector<int64_t> mine_;
  std::vector<BatchContext> contexts_;  // of all batches
  std::vector<at::Tensor> hidden_;      // of mine_; before the embedding: input ids
};

}  // namespace halftone
