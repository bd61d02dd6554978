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
  bool drops_logits = false;      // nobody asks for what the head gives
};

// Layer-outer: keeps the hidden states of this rank's batches and takes them through one stage
// after the other. On the CPU batches run concurrently, each on one thread: what a batch computes
// does not depend on the number of threads or ranks. Where memory does not suffice, fewer batches
// and then fewer rows of a batch are computed at a time, for the rest of the pass; batches stay
// what they are. A row that does not fit alone is a ResourceError.
class BatchPass {
 public:
  BatchPass(const Model& model, const std::vector<Batch>& batches, const BatchOptions& options,
            const Cluster& cluster);

  // Called for each batch of this rank, or for parts of it: with the batch's index among all and
  // what there is to know of the rows, which outlives the runner.
  using MakeRunner =
      std::function<std::unique_ptr<LinearRunner>(int64_t batch, const BatchContext& rows)>;
  using OnDone = std::function<void(int64_t batch, LinearRunner& runner)>;
  // Replaces the states by the outputs of the stage (of a part of it). `on_done` is called in batch
  // order afterwards, with the runner of all its rows.
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
  // The rows that are computed at a time; INT64_MAX while memory suffices for whole batches.
  int64_t rows_per_call() const { return rows_per_call_; }

 private:
  // What one batch leaves behind on its way through a stage.
  struct Computed {
    States states;
    std::unique_ptr<LinearRunner> runner;
    std::vector<std::unique_ptr<BatchContext>> parts;  // what runners speak of
  };
  // The stage for one batch.
  using Compute = std::function<States(States, const BatchContext&, LinearRunner&)>;
  Computed compute(size_t position, const Compute& forward, const MakeRunner& make_runner) const;
  Computed compute_in_parts(size_t position, const Compute& forward,
                            const MakeRunner& make_runner) const;
  // Those of `positions` for which memory did not suffice.
  std::vector<size_t> try_all(const std::vector<size_t>& positions,
                              const std::function<void(size_t position)>& body) const;
  void take_less(size_t stage, size_t failed);

  const Model& model_;
  Cluster cluster_;
  std::vector<int64_t> mine_;
  std::vector<BatchContext> contexts_;  // of all batches
  std::vector<States> states_;          // of mine_
  bool drops_logits_ = false;
  bool one_at_a_time_ = false;
  int64_t rows_per_call_ = INT64_MAX;
};

}  // namespace halftone
