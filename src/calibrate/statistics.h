#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "dist/communicator.h"
#include "model/stage.h"

namespace halftone {

// What was seen of an attention's keys or values. amax is kAbsent of dist/reductions.h before the
// first token; the tensors are F32 [heads * head_dim] on the CPU.
struct CacheStatistics {
  float amax;
  float rotated_amax;  // behind a Hadamard rotation of the head dimension
  at::Tensor largest;
  at::Tensor smallest;
  at::Tensor mean;     // of the batches' means; undefined: not asked for
  int64_t tokens = 0;  // that an observer saw; not reduced
};

// What calibration has seen of a stage. Maxima are exact maxima in the compute dtype, kAbsent where
// nothing was seen; means are taken per batch and averaged in batch order.
struct StageStatistics {
  explicit StageStatistics(const StageSpec& stage);

  // Takes over what one batch, or one part of the stage for it, showed.
  void merge(int64_t batch, const StageStatistics& other);
  // Takes over what further rows of the one batch that this is about showed. Means weigh as many
  // tokens as they are of.
  void take_rows(const StageStatistics& behind);
  // Over all ranks and batches. Collective.
  void reduce(Communicator& communicator, int64_t batches);

  std::vector<float> input_amax;  // per linear
  // Per linear: F32 [in] on the CPU; undefined before reduce() where nothing was seen.
  std::vector<at::Tensor> channel_amax;
  std::vector<at::Tensor> mean_abs;   // per linear: F32 [in]; undefined: not asked for
  std::vector<int64_t> tokens;        // per linear: rows of its input that were observed
  std::vector<CacheStatistics> keys;  // per attention
  std::vector<CacheStatistics> values;

 private:
  friend StageStatistics unseen_statistics(const StageSpec& stage);
  void fill_unseen();
  void reduce_maxima(Communicator& communicator);
  void reduce_means(Communicator& communicator, int64_t batches);

  std::vector<int64_t> widths_;  // per linear: its input channels
  // The means of each batch of this rank: per linear, then keys and values of each attention.
  std::map<int64_t, std::vector<at::Tensor>> batch_means_;
};

// As if reduced without a batch.
StageStatistics unseen_statistics(const StageSpec& stage);

}  // namespace halftone
