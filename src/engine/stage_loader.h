#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <map>
#include <string>
#include <vector>

#include "engine/cluster.h"
#include "io/checkpoint.h"
#include "io/prefetch.h"
#include "io/stage_image.h"

namespace halftone {

// The tensors of one stage as they are on disk, whole on every rank, on the run's device.
class LoadedStage {
 public:
  LoadedStage() = default;
  LoadedStage(StageImage image, at::Tensor bytes);

  const StageImage& image() const { return image_; }
  const at::Tensor& bytes() const { return bytes_; }  // uint8 [image bytes, padded]
  // A view in the stored dtype (bytes for FP8) and shape.
  at::Tensor tensor(const std::string& name) const;
  const StageImage::Entry& entry(const std::string& name) const;

 private:
  StageImage image_;
  at::Tensor bytes_;
  std::map<std::string, size_t> index_;
};

// Residency `stream`: hands out the stages in order while a thread reads the next one. Each rank
// reads 1/N of a stage's bytes and the ranks gather them, so the source is read once whatever N is.
// At most two stages are in memory.
class StageLoader {
 public:
  // names[s]: the tensors of stage s.
  StageLoader(const Checkpoint& checkpoint, std::vector<std::vector<std::string>> names,
              const Cluster& cluster);

  // Collective: every rank calls it once per stage. The stage before must not be used any more.
  LoadedStage next();

  int64_t bytes_read() const { return bytes_read_; }
  // Seconds for which the computation had to wait for a read.
  double seconds_waiting() const { return seconds_waiting_; }

 private:
  struct Pending {
    StageImage image;
    at::Tensor
        part;  // uint8 on the host: the whole image for gathering there, else this rank's part
  };
  void post(size_t stage);
  // Bytes of the host buffer that a stage needs.
  int64_t buffer_bytes(const StageImage& image) const;

  const Checkpoint& checkpoint_;
  std::vector<std::vector<std::string>> names_;
  Cluster cluster_;
  size_t next_ = 0;
  Pending pending_;
  // Stages take turns; made once, so that memory does not depend on what the allocator keeps.
  std::array<at::Tensor, 2> buffers_;
  int64_t bytes_read_ = 0;
  double seconds_waiting_ = 0.0;
  Prefetcher prefetcher_;  // last: its thread writes into pending_
};

}  // namespace halftone
