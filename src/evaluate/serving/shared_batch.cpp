#include "evaluate/serving/shared_batch.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace halftone {
namespace {

constexpr int64_t kLogitBytes = 64 << 20;  // of a piece of scored positions

// Lists as one list: how many, their lengths, their numbers.
std::vector<int64_t> flattened(const std::vector<std::vector<int64_t>>& lists) {
  std::vector<int64_t> numbers{std::ssize(lists)};
  for (const std::vector<int64_t>& list : lists) numbers.push_back(std::ssize(list));
  for (const std::vector<int64_t>& list : lists) {
    numbers.insert(numbers.end(), list.begin(), list.end());
  }
  return numbers;
}

std::vector<std::vector<int64_t>> unflattened(const std::vector<int64_t>& numbers) {
  std::vector<std::vector<int64_t>> lists;
  auto next = numbers.begin() + 1 + numbers[0];
  for (int64_t list = 0; list < numbers[0]; ++list) {
    const auto end = next + numbers[static_cast<size_t>(list) + 1];
    lists.emplace_back(next, end);
    next = end;
  }
  return lists;
}

}  // namespace

void SharedBatch::tell(Action action, std::vector<int64_t> numbers) {
  if (control_.size() == 1) return;
  int64_t header[2] = {static_cast<int64_t>(action), std::ssize(numbers)};
  control_.broadcast(header, sizeof header, 0);
  if (!numbers.empty()) {
    control_.broadcast(numbers.data(), std::ssize(numbers) * int64_t{sizeof(int64_t)}, 0);
  }
}

at::Tensor SharedBatch::add(const std::vector<std::vector<int64_t>>& prompts) {
  tell(Action::kAdd, flattened(prompts));
  return batch_.add(prompts);
}

at::Tensor SharedBatch::step(const std::vector<int64_t>& ids_B) {
  tell(Action::kStep, ids_B);
  return batch_.step(ids_B);
}

void SharedBatch::keep(const std::vector<int64_t>& rows) {
  if (std::ssize(rows) == batch_.rows()) return;
  tell(Action::kKeep, rows);
  batch_.keep(rows);
}

void SharedBatch::score(const std::vector<int64_t>& ids, const TakeLogits& take) {
  tell(Action::kScore, ids);
  score_pieces(ids, take);
}

void SharedBatch::score_pieces(const std::vector<int64_t>& ids, const TakeLogits& take) {
  const int64_t piece = std::max<int64_t>(1, kLogitBytes / (4 * model_.vocabulary()));
  const at::Tensor ids_1T = at::tensor(ids, at::kLong).unsqueeze(0);
  KvCaches caches = model_.make_caches();
  for (int64_t begin = 0; begin < std::ssize(ids); begin += piece) {
    BatchContext context;
    context.past = begin;
    context.length = std::min(piece, std::ssize(ids) - begin);
    context.tokens = {{0, begin + context.length}};
    context.sequence_lengths = {std::ssize(ids)};
    const at::Tensor logits_1TV =
        model_.logits(ids_1T.slice(1, begin, begin + context.length), context, caches, false);
    if (take) take(begin, logits_1TV[0]);
  }
}

void SharedBatch::idle() {
  tell(Action::kIdle, {});
}

void SharedBatch::end() {
  tell(Action::kEnd, {});
}

void SharedBatch::follow() {
  while (true) {
    int64_t header[2] = {};
    control_.broadcast(header, sizeof header, 0);
    std::vector<int64_t> numbers(static_cast<size_t>(header[1]));
    if (!numbers.empty()) {
      control_.broadcast(numbers.data(), header[1] * int64_t{sizeof(int64_t)}, 0);
    }
    switch (static_cast<Action>(header[0])) {
      case Action::kAdd:
        batch_.add(unflattened(numbers));
        break;
      case Action::kStep:
        batch_.step(numbers);
        break;
      case Action::kKeep:
        batch_.keep(numbers);
        break;
      case Action::kScore:
        score_pieces(numbers, {});
        break;
      case Action::kIdle:
        break;
      case Action::kEnd:
        return;
    }
  }
}

}  // namespace halftone
