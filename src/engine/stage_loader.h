#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "engine/cluster.h"
#include "engine/held_weights.h"
#include "engine/load_step.h"
#include "engine/side_stream.h"
#include "formats/stored_tensor.h"
#include "io/checkpoint.h"
#include "io/prefetch.h"
#include "io/stage_image.h"
#include "model/model.h"

namespace halftone {

// Tensors of one stage, on the run's device: read and gathered in one piece, whole on every rank,
// or, where a stage came in parts, read again one by one when they are asked for.
class LoadedStage {
 public:
  // Views of an image that holds all pieces of `tensors`.
  LoadedStage(std::vector<StoredTensor> tensors, StageImage image, at::Tensor bytes,
              ThreadPool& pool);
  // Nothing in memory: every call of tensor() reads this rank's copy.
  LoadedStage(std::vector<StoredTensor> tensors, const Checkpoint& checkpoint, at::Device device,
              ThreadPool& pool);

  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  bool has(const std::string& name) const { return index_.count(name) > 0; }
  const StoredTensor& stored(const std::string& name) const;
  // Decoded where it is stored in low bits, else a view in the stored dtype (bytes for FP8).
  at::Tensor tensor(const std::string& name) const;
  // In `dtype`, rounded once from what low bits stand for; tensors that keep their dtype keep it.
  at::Tensor tensor_as(const std::string& name, at::ScalarType dtype) const;
  // uint8 [out, in / 32]: the exponents of a weight that the source stores as MXFP4; undefined for
  // others.
  at::Tensor block_exponents(const std::string& name) const;

  bool in_memory() const { return bytes_.defined(); }
  const StageImage& image() const { return image_; }  // in memory only
  const at::Tensor& bytes() const { return bytes_; }  // uint8 [image bytes, padded]

 private:
  std::vector<at::Tensor> pieces(const StoredTensor& stored) const;
  at::Tensor read_piece(const TensorPiece& piece) const;

  std::vector<StoredTensor> tensors_;
  std::map<std::string, size_t> index_;
  StageImage image_;
  std::map<TensorPiece, size_t> entry_of_;
  at::Tensor bytes_;
  const Checkpoint* checkpoint_ = nullptr;
  at::Device device_;
  ThreadPool& pool_;
};

// The steps in which stages are loaded. A stage of more than `limit` bytes on disk with experts
// comes in parts: first everything else, then as many experts at a time as stay within the limit.
std::vector<LoadStep> plan_loads(const std::vector<std::vector<StoredTensor>>& stages,
                                 int64_t limit);

// Hands out the steps in order while a thread reads the next one, brings it to the GPU and gathers
// it. Each rank reads 1/N of a step's bytes and the ranks gather them, so the source is read once
// whatever N is. At most two steps are in memory, and beside them what `held` has: a step that is
// found there is gathered from it, others are read and, if it keeps the source, left there.
class StageLoader {
 public:
  // On the way to a GPU. Large enough for the bus, small beside a stage.
  static constexpr int64_t kStagingBytes = int64_t{64} << 20;

  // held: null, or what outlives this loader.
  StageLoader(const Checkpoint& checkpoint, std::vector<LoadStep> steps, const Cluster& cluster,
              HeldWeights* held = nullptr);
  // A rank that unwinds leaves its peers alone; otherwise all ranks leave at the same step.
  ~StageLoader();

  // What next() will load.
  const LoadStep& step() const { return steps_[next_]; }
  // Collective: every rank calls it once per step. The step before must not be used any more.
  LoadedStage next();

  int64_t bytes_read() const { return bytes_read_; }
  // Seconds for which the computation had to wait for a step.
  double seconds_waiting() const { return seconds_waiting_; }

 private:
  struct Pending {
    StageImage image;
    at::Tensor bytes;                // uint8: the whole image, of which this rank fills its part
    const HeldStep* held = nullptr;  // where it comes from; null: read
    at::Tensor kept;                 // this rank's part on its way there; undefined: not kept
    int64_t part = 0;                // bytes of each rank
  };
  void post(size_t step);
  StageImage image_of(const LoadStep& step) const;
  const HeldStep* held(const LoadStep& step) const;
  at::Tensor my_part(const Pending& pending) const;
  // On the loading thread.
  void fill(const Pending& pending, size_t stage, const SideStream::Mark& buffer_is_free);
  void read(const Pending& pending, const SideStream::Mark& buffer_is_free);
  void gather(const at::Tensor& bytes, int64_t part, size_t stage);
  void wait();

  const Checkpoint& checkpoint_;
  std::vector<LoadStep> steps_;
  Cluster cluster_;
  HeldWeights* held_;
  Loading* loading_ = nullptr;  // null: next() gathers
  size_t next_ = 0;
  Pending pending_;
  SideStream copies_;
  // Steps take turns; made once, so that memory does not depend on what the allocator keeps.
  std::array<at::Tensor, 2> buffers_;
  at::Tensor staging_;  // of the host, on the way to a GPU
  int64_t bytes_read_ = 0;
  double seconds_waiting_ = 0.0;
  bool filled_ = false;  // whether the loading thread has the part that it gathers next
  std::atomic<bool> given_up_{false};
  Prefetcher prefetcher_;  // last: its thread uses the others
};

}  // namespace halftone
