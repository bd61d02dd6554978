#include "engine/stage_loader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "core/progress.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"

namespace halftone {

LoadedStage::LoadedStage(StageImage image, at::Tensor bytes)
    : image_(std::move(image)), bytes_(std::move(bytes)) {
  for (size_t i = 0; i < image_.entries.size(); ++i) index_[image_.entries[i].name] = i;
}

const StageImage::Entry& LoadedStage::entry(const std::string& name) const {
  const auto found = index_.find(name);
  check(found != index_.end(), "a stage uses only the tensors that it lists: " + name);
  return image_.entries[found->second];
}

at::Tensor LoadedStage::tensor(const std::string& name) const {
  const StageImage::Entry& where = entry(name);
  return bytes_.slice(0, where.begin, where.begin + where.bytes)
      .view(scalar_type_of(where.dtype))
      .view(where.shape);
}

StageLoader::StageLoader(const Checkpoint& checkpoint, std::vector<std::vector<std::string>> names,
                         const Cluster& cluster)
    : checkpoint_(checkpoint), names_(std::move(names)), cluster_(cluster) {
  int64_t largest = 0;
  for (const std::vector<std::string>& stage : names_) {
    largest = std::max(largest, buffer_bytes(plan_stage_image(checkpoint, stage)));
  }
  for (at::Tensor& buffer : buffers_) buffer = at::empty({largest}, at::kByte);
  if (!names_.empty()) post(0);
}

int64_t StageLoader::buffer_bytes(const StageImage& image) const {
  const Communicator& ranks = cluster_.tensors;
  const int64_t part = image.part_bytes(ranks.size());
  return ranks.device() == Device::kCpu ? part * ranks.size() : part;
}

void StageLoader::post(size_t stage) {
  pending_.image = plan_stage_image(checkpoint_, names_[stage]);
  const Communicator& ranks = cluster_.tensors;
  const int64_t part = pending_.image.part_bytes(ranks.size());
  const bool gather_on_host = ranks.device() == Device::kCpu;
  const int64_t begin = part * ranks.rank();
  pending_.part = buffers_[stage % 2].slice(0, 0, buffer_bytes(pending_.image));
  char* target =
      static_cast<char*>(pending_.part.mutable_data_ptr()) + (gather_on_host ? begin : 0);
  prefetcher_.post([this, begin, part, target] {
    read_stage_range(checkpoint_, pending_.image, begin, part, target);
  });
}

LoadedStage StageLoader::next() {
  check(next_ < names_.size(), "every stage is loaded once");
  const auto start = std::chrono::steady_clock::now();
  prefetcher_.wait();
  seconds_waiting_ += seconds_since(start);
  Pending ready = std::move(pending_);
  if (++next_ < names_.size()) post(next_);

  Communicator& ranks = cluster_.tensors;
  const int64_t part = ready.image.part_bytes(ranks.size());
  bytes_read_ += part;
  at::Tensor bytes = ready.part;
  if (ranks.device() == Device::kCpu) {
    ranks.all_gather(bytes.mutable_data_ptr(), part);
    if (cluster_.device.is_cuda()) bytes = bytes.to(cluster_.device);
  } else {
    bytes = at::empty({part * ranks.size()}, at::TensorOptions(at::kByte).device(cluster_.device));
    bytes.slice(0, part * ranks.rank(), part * (ranks.rank() + 1)).copy_(ready.part);
    ranks.all_gather(bytes.mutable_data_ptr(), part);
  }
  return {std::move(ready.image), std::move(bytes)};
}

}  // namespace halftone
