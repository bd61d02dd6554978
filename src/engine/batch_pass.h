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

struct BatchOptions {
  at::ScalarType dtype = at::kBFloat16;  // of features
  bool count_padding = false;
  double observed_experts = 0.0;  // BatchContext
};

// Layer-outer: keeps the hidden states of this rank's batches and takes them through one stage
// after the other. On the CPU batches run concurrently, each on one thread: what a batch computes
// does not depend on the number of threads or ranks.
class BatchPass {
 public:
  BatchPass(const Model& model, const std::vector<Batch>& batches, const BatchOptions& options,
            const Cluster& cluster);

  // Called for each batch of this rank: with its index among all batches.
  using MakeRunner = std::function<std::unique_ptr<LinearRunner>(int64_t batch)>;
  using OnDone = std::function<void(int64_t batch, LinearRunner& runner)>;
  // Replaces the states by the outputs of the stage (of a part of it). `on_done` is called in batch
  // order afterwards.
  void forward(size_t stage, const StagePart& part, const StageWeights& weights,
               const MakeRunner& make_runner, const OnDone& on_done = {});
  // What the stage began with; back to it, so that the stage can be computed once more.
  std::vector<States> inputs() const { return states_; }
  void restore(std::vector<States> inputs) { states_ = std::move(inputs); }

  // Calls body(batch, position) for this rank's batches, concurrently on the CPU.
  void for_each_batch(const std::function<void(int64_t batch, size_t position)>& body) const;

  const States& states(size_t position) const { return states_[position]; }
  const BatchContext& context(int64_t batch) const { return contexts_[static_cast<size_t>(batch)]; }
  const std::vector<int64_t>& mine() const { return mine_; }

 private:
  const Model& model_;
  Cluster cluster_;
  std::vector<int64_t> mine_;
  std::vector<BatchContext> contexts_;  // of all batches
  std::vector<States> states_;          // of mine_
};

}  // namespace halftone
