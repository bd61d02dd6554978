#include "engine/stage_loader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/progress.h"
#include "kernels/check.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

std::vector<TensorPiece> pieces_of(const std::vector<StoredTensor>& tensors) {
  std::vector<TensorPiece> pieces;
  for (const StoredTensor& tensor : tensors) {
    pieces.insert(pieces.end(), tensor.pieces.begin(), tensor.pieces.end());
  }
  return pieces;
}

// The steps of a stage that comes in parts.
void add_parts(size_t stage, const std::vector<StoredTensor>& tensors, int64_t limit,
               std::vector<LoadStep>& steps) {
  std::map<int64_t, std::vector<StoredTensor>> by_expert;
  LoadStep step{stage, {true, false, 0, 0}, {}};
  for (const StoredTensor& tensor : tensors) {
    (tensor.expert < 0 ? step.tensors : by_expert[tensor.expert]).push_back(tensor);
  }
  steps.push_back(std::move(step));
  int64_t filled = limit + 1;
  for (auto& [expert, mine] : by_expert) {
    const int64_t bytes = bytes_of(mine);
    if (filled + bytes > limit) {
      steps.push_back({stage, {false, false, expert, expert}, {}});
      filled = 0;
    }
    filled += bytes;
    LoadStep& group = steps.back();
    group.part.expert_end = expert + 1;
    group.tensors.insert(group.tensors.end(), mine.begin(), mine.end());
  }
  steps.back().part.last = true;
}

}  // namespace

std::vector<LoadStep> plan_loads(const std::vector<std::vector<StoredTensor>>& stages,
                                 int64_t limit) {
  std::vector<LoadStep> steps;
  for (size_t s = 0; s < stages.size(); ++s) {
    const std::vector<StoredTensor>& tensors = stages[s];
    const bool experts = std::any_of(tensors.begin(), tensors.end(),
                                     [](const StoredTensor& one) { return one.expert >= 0; });
    if (experts && bytes_of(tensors) > limit) {
      add_parts(s, tensors, limit, steps);
    } else {
      steps.push_back({s, {}, tensors});
    }
  }
  return steps;
}

StageLoader::StageLoader(const Checkpoint& checkpoint, std::vector<LoadStep> steps,
                         const Cluster& cluster, HeldWeights* held)
    : checkpoint_(checkpoint), steps_(std::move(steps)), cluster_(cluster), held_(held) {
  int64_t largest = 0;
  for (const LoadStep& step : steps_) {
    largest = std::max(largest, buffer_bytes(step, image_of(step)));
  }
  for (at::Tensor& buffer : buffers_) buffer = at::empty({largest}, at::kByte);
  if (!steps_.empty()) post(0);
}

const HeldStep* StageLoader::held(const LoadStep& step) const {
  return held_ == nullptr ? nullptr : held_->find(step);
}

StageImage StageLoader::image_of(const LoadStep& step) const {
  const HeldStep* found = held(step);
  return found != nullptr ? found->image : plan_stage_image(checkpoint_, pieces_of(step.tensors));
}

int64_t StageLoader::buffer_bytes(const LoadStep& step, const StageImage& image) const {
  const int ranks = cluster_.tensors.size();
  const int64_t part = image.part_bytes(ranks);
  if (gathers_on_host()) return part * ranks;
  return held(step) != nullptr ? 0 : part;
}

void StageLoader::post(size_t step) {
  pending_ = {image_of(steps_[step]), {}, held(steps_[step]), {}};
  const Communicator& ranks = cluster_.tensors;
  const int64_t part = pending_.image.part_bytes(ranks.size());
  const int64_t begin = part * ranks.rank();
  if (pending_.held != nullptr && !gathers_on_host()) {
    pending_.part = pending_.held->part;
    prefetcher_.post([] {});  // next() waits once per step
    return;
  }
  pending_.part = buffers_[step % 2].slice(0, 0, buffer_bytes(steps_[step], pending_.image));
  char* target =
      static_cast<char*>(pending_.part.mutable_data_ptr()) + (gathers_on_host() ? begin : 0);
  if (pending_.held != nullptr) {
    const void* source = pending_.held->part.const_data_ptr();
    prefetcher_.post(
        [source, target, part] { std::memcpy(target, source, static_cast<size_t>(part)); });
    return;
  }
  if (held_ != nullptr && held_->keeps_source() && gathers_on_host()) {
    pending_.kept = at::empty({part}, at::kByte);
  }
  void* copy = pending_.kept.defined() ? pending_.kept.mutable_data_ptr() : nullptr;
  prefetcher_.post([this, step, begin, part, target, copy] {
    const Span span(cluster_.trace, SpanKind::kRead, steps_[step].stage);
    read_stage_range(checkpoint_, pending_.image, begin, part, target);
    if (copy != nullptr) std::memcpy(copy, target, static_cast<size_t>(part));
  });
}

LoadedStage StageLoader::next() {
  check(next_ < steps_.size(), "every step is loaded once");
  const auto start = std::chrono::steady_clock::now();
  {
    const Span span(cluster_.trace, SpanKind::kWait);
    prefetcher_.wait();
  }
  seconds_waiting_ += seconds_since(start);
  Pending ready = std::move(pending_);
  if (++next_ < steps_.size()) post(next_);

  const LoadStep& step = steps_[next_ - 1];
  at::Tensor bytes = gather(ready);
  if (ready.held != nullptr) {
    return {ready.held->tensors, std::move(ready.image), std::move(bytes), cluster_.pool};
  }
  bytes_read_ += ready.image.part_bytes(cluster_.tensors.size());
  keep(step, ready, bytes);
  return {step.tensors, std::move(ready.image), std::move(bytes), cluster_.pool};
}

at::Tensor StageLoader::gather(const Pending& ready) {
  const Span span(cluster_.trace, SpanKind::kGather);
  Communicator& ranks = cluster_.tensors;
  const int64_t part = ready.image.part_bytes(ranks.size());
  at::Tensor bytes = ready.part;
  if (gathers_on_host()) {
    ranks.all_gather(bytes.mutable_data_ptr(), part);
    if (cluster_.device.is_cuda()) bytes = bytes.to(cluster_.device);
  } else {
    bytes = at::empty({part * ranks.size()}, at::TensorOptions(at::kByte).device(cluster_.device));
    bytes.slice(0, part * ranks.rank(), part * (ranks.rank() + 1)).copy_(ready.part);
    ranks.all_gather(bytes.mutable_data_ptr(), part);
  }
  return bytes;
}

void StageLoader::keep(const LoadStep& step, const Pending& ready, const at::Tensor& bytes) {
  if (held_ == nullptr || !held_->keeps_source()) return;
  const int64_t part = ready.image.part_bytes(cluster_.tensors.size());
  const int64_t begin = part * cluster_.tensors.rank();
  held_->keep(step,
              {step.tensors, ready.image,
               ready.kept.defined() ? ready.kept : bytes.slice(0, begin, begin + part).clone()});
}

}  // namespace halftone
