#include "engine/stage_loader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <exception>

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
    : checkpoint_(checkpoint),
      steps_(std::move(steps)),
      cluster_(cluster),
      held_(held),
      copies_(cluster.device) {
  if (cluster.loading != nullptr && !cluster.loading->taken) {
    loading_ = cluster.loading;
    loading_->taken = true;
  }
  const int ranks = cluster.tensors.size();
  int64_t largest[2] = {0, 0};
  for (size_t i = 0; i < steps_.size(); ++i) {
    largest[i % 2] = std::max(largest[i % 2], image_of(steps_[i]).part_bytes(ranks) * ranks);
  }
  const auto bytes = at::TensorOptions(at::kByte);
  for (size_t turn = 0; turn < 2; ++turn) {
    buffers_[turn] = at::empty({largest[turn]}, bytes.device(cluster.device));
  }
  if (cluster.device.is_cuda()) {
    const int64_t most = std::max(largest[0], largest[1]) / ranks;
    staging_ = at::empty({std::min(most, kStagingBytes)}, bytes.pinned_memory(true));
  }
  if (!steps_.empty()) post(0);
}

StageLoader::~StageLoader() {
  if (std::uncaught_exceptions() > 0) {
    given_up_.store(true);
  } else if (next_ < steps_.size()) {
    prefetcher_.finish();
  }
  if (loading_ != nullptr) loading_->taken = false;
}

const HeldStep* StageLoader::held(const LoadStep& step) const {
  return held_ == nullptr ? nullptr : held_->find(step);
}

StageImage StageLoader::image_of(const LoadStep& step) const {
  const HeldStep* found = held(step);
  return found != nullptr ? found->image : plan_stage_image(checkpoint_, pieces_of(step.tensors));
}

at::Tensor StageLoader::my_part(const Pending& pending) const {
  const int64_t begin = pending.part * cluster_.tensors.rank();
  return pending.bytes.slice(0, begin, begin + pending.part);
}

void StageLoader::post(size_t step) {
  const int ranks = cluster_.tensors.size();
  pending_ = {image_of(steps_[step]), {}, held(steps_[step]), {}, 0};
  pending_.part = pending_.image.part_bytes(ranks);
  pending_.bytes = buffers_[step % 2].slice(0, 0, pending_.part * ranks);
  if (pending_.held == nullptr && held_ != nullptr && held_->keeps_source()) {
    pending_.kept = at::empty({pending_.part}, pending_.bytes.options());
  }
  const size_t stage = steps_[step].stage;
  prefetcher_.post([this, pending = pending_, stage, free = copies_.mark()] {
    filled_ = false;
    fill(pending, stage, free);
    filled_ = true;
  });
  if (loading_ == nullptr) return;
  prefetcher_.post(
      [this, all = pending_.bytes, part = pending_.part, stage] { gather(all, part, stage); });
}

void StageLoader::fill(const Pending& pending, size_t stage,
                       const SideStream::Mark& buffer_is_free) {
  const at::Tensor mine = my_part(pending);
  if (pending.held != nullptr) {
    copies_.run(buffer_is_free, [&] { mine.copy_(pending.held->part); });
    return;
  }
  const Span span(cluster_.trace, SpanKind::kRead, stage);
  read(pending, buffer_is_free);
  if (pending.kept.defined()) {
    copies_.run(buffer_is_free, [&] { pending.kept.copy_(mine); });
  }
}

void StageLoader::read(const Pending& pending, const SideStream::Mark& buffer_is_free) {
  const at::Tensor mine = my_part(pending);
  const int64_t begin = pending.part * cluster_.tensors.rank();
  if (mine.is_cpu()) {
    read_stage_range(checkpoint_, pending.image, begin, pending.part, mine.mutable_data_ptr());
    return;
  }
  for (int64_t done = 0; done < pending.part; done += staging_.numel()) {
    const int64_t bytes = std::min(staging_.numel(), pending.part - done);
    read_stage_range(checkpoint_, pending.image, begin + done, bytes, staging_.mutable_data_ptr());
    copies_.run(buffer_is_free, [&] {
      mine.slice(0, done, done + bytes).copy_(staging_.slice(0, 0, bytes), /*non_blocking=*/true);
    });
  }
}

void StageLoader::gather(const at::Tensor& bytes, int64_t part, size_t stage) {
  // A part that could not be read is the other task's error.
  if (!filled_ || !loading_->meeting.meet(given_up_)) return;
  const Span span(cluster_.trace, SpanKind::kGather, stage);
  loading_->ranks.all_gather(bytes.mutable_data_ptr(), part);
}

void StageLoader::wait() {
  const auto start = std::chrono::steady_clock::now();
  const Span span(cluster_.trace, SpanKind::kWait);
  prefetcher_.wait();
  if (loading_ != nullptr) {
    const Activity::Collective collective(&cluster_.world.activity(), "all-gather");
    prefetcher_.wait();
  }
  seconds_waiting_ += seconds_since(start);
}

LoadedStage StageLoader::next() {
  check(next_ < steps_.size(), "every step is loaded once");
  wait();
  Pending ready = std::move(pending_);
  if (++next_ < steps_.size()) post(next_);

  const LoadStep& step = steps_[next_ - 1];
  if (loading_ == nullptr && cluster_.tensors.size() > 1) {
    const Span span(cluster_.trace, SpanKind::kGather);
    cluster_.tensors.all_gather(ready.bytes.mutable_data_ptr(), ready.part);
  }
  if (ready.held != nullptr) {
    return {ready.held->tensors, std::move(ready.image), std::move(ready.bytes), cluster_.pool};
  }
  bytes_read_ += ready.part;
  if (ready.kept.defined()) held_->keep(step, {step.tensors, ready.image, ready.kept});
  return {step.tensors, std::move(ready.image), std::move(ready.bytes), cluster_.pool};
}

}  // namespace halftone
