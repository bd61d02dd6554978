#include "evaluate/generation/decoding_batch.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/check.h"

namespace halftone {
namespace {

std::vector<int64_t> lengths_of(const std::vector<std::vector<int64_t>>& sequences) {
  std::vector<int64_t> lengths;
  for (const std::vector<int64_t>& sequence : sequences) {
    lengths.push_back(static_cast<int64_t>(sequence.size()));
  }
  return lengths;
}

int64_t longest_of(const std::vector<std::vector<int64_t>>& sequences) {
  int64_t longest = 0;
  for (int64_t length : lengths_of(sequences)) longest = std::max(longest, length);
  return longest;
}

}  // namespace

int64_t DecodingBatch::width() const {
  return longest_of(sequences_);
}

BatchContext DecodingBatch::context_of(const std::vector<int64_t>& lengths, int64_t width,
                                       int64_t past, int64_t length) {
  const auto rows = static_cast<int64_t>(lengths.size());
  BatchContext context;
  context.past = past;
  context.length = length;
  context.positions_BT = at::empty({rows, length}, at::kLong);
  auto* positions = context.positions_BT.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t begin = width - lengths[static_cast<size_t>(row)];
    context.padded = context.padded || begin > 0;
    context.tokens.push_back({std::min(begin, past + length), past + length});
    for (int64_t t = 0; t < length; ++t) {
      positions[row * length + t] = std::max<int64_t>(0, past + t - begin);
    }
  }
  context.sequence_lengths = lengths;
  if (!context.padded) context.positions_BT = at::Tensor();
  return context;
}

DecodingBatch::Filled DecodingBatch::fill(const std::vector<std::vector<int64_t>>& sequences) {
  const int64_t width = longest_of(sequences);
  const auto rows = static_cast<int64_t>(sequences.size());
  const std::vector<int64_t> lengths = lengths_of(sequences);
  at::Tensor ids_BT = at::zeros({rows, width}, at::kLong);
  auto* ids = ids_BT.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<int64_t>& sequence = sequences[static_cast<size_t>(row)];
    std::copy(sequence.begin(), sequence.end(), ids + (row + 1) * width - std::ssize(sequence));
  }
  Filled filled{model_.make_caches(), {}};
  for (int64_t past = 0; past < width; past += kPiece) {
    const int64_t end = std::min(width, past + kPiece);
    const at::Tensor logits_B1V =
        model_.logits(ids_BT.slice(1, past, end), context_of(lengths, width, past, end - past),
                      filled.caches, /*last=*/true);
    filled.logits_BV = logits_B1V.squeeze(1);
  }
  return filled;
}

at::Tensor DecodingBatch::add(const std::vector<std::vector<int64_t>>& prompts) {
  for (const std::vector<int64_t>& prompt : prompts) {
    check(!prompt.empty() && std::ssize(prompt) <= model_.length(), "a prompt has a valid length");
  }
  const int64_t past = width();
  const int64_t added = longest_of(prompts);
  const bool alone = sequences_.empty();
  Filled filled = fill(prompts);
  sequences_.insert(sequences_.end(), prompts.begin(), prompts.end());
  if (alone) {
    caches_ = std::move(filled.caches);
    return filled.logits_BV;
  }
  for (size_t stage = 0; stage < caches_.size(); ++stage) {
    caches_[stage].join(filled.caches[stage], past, added, std::max(past, added));
  }
  return filled.logits_BV;
}

at::Tensor DecodingBatch::step(const std::vector<int64_t>& ids_B) {
  check(std::ssize(ids_B) == rows(), "a step has one token for each row");
  const int64_t past = width();
  check(past < model_.length(), "sequences stay within the model's length");
  std::vector<int64_t> crossing;
  for (int64_t row = 0; row < rows(); ++row) {
    if (std::ssize(tokens(row)) == model_.position_break()) crossing.push_back(row);
  }
  if (!crossing.empty()) return step_beyond(ids_B, crossing);
  for (size_t row = 0; row < sequences_.size(); ++row) sequences_[row].push_back(ids_B[row]);
  at::Tensor ids_B1 = at::empty({rows(), 1}, at::kLong);
  std::copy(ids_B.begin(), ids_B.end(), ids_B1.mutable_data_ptr<int64_t>());
  return model_
      .logits(ids_B1, context_of(lengths_of(sequences_), past + 1, past, 1), caches_,
              /*last=*/true)
      .squeeze(1);
}

// What is cached of the crossing rows is void: they leave, and come back as prompts.
at::Tensor DecodingBatch::step_beyond(const std::vector<int64_t>& ids_B,
                                      const std::vector<int64_t>& crossing) {
  std::vector<int64_t> order, stay, ids_of_stay;
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t row = 0, crossed = 0; row < rows(); ++row) {
    const int64_t id = ids_B[static_cast<size_t>(row)];
    if (crossed < std::ssize(crossing) && crossing[static_cast<size_t>(crossed)] == row) {
      prompts.push_back(tokens(row));
      prompts.back().push_back(id);
      order.push_back(rows() - std::ssize(crossing) + crossed++);
    } else {
      order.push_back(std::ssize(stay));
      stay.push_back(row);
      ids_of_stay.push_back(id);
    }
  }
  keep(stay);
  std::vector<at::Tensor> logits;
  if (!stay.empty()) logits.push_back(step(ids_of_stay));
  logits.push_back(add(prompts));
  keep(order);
  return at::cat(logits).index_select(0, at::tensor(order, at::kLong));
}

void DecodingBatch::keep(const std::vector<int64_t>& rows) {
  const int64_t past = width();
  std::vector<std::vector<int64_t>> kept;
  bool same = std::ssize(rows) == this->rows();
  for (size_t place = 0; place < rows.size(); ++place) {
    same = same && rows[place] == static_cast<int64_t>(place);
    kept.push_back(std::move(sequences_[static_cast<size_t>(rows[place])]));
  }
  sequences_ = std::move(kept);
  if (same) return;
  if (sequences_.empty()) {
    caches_ = model_.make_caches();
    return;
  }
  const at::Tensor index = at::tensor(rows, at::kLong);
  for (KvCache& cache : caches_) cache.keep(index, past - width(), past);
}

}  // namespace halftone
