#include "evaluate/serving/scheduler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// How long there may be nothing to do before the other ranks hear of it.
constexpr std::chrono::milliseconds kPatience{200};

std::span<const float> span_of(const at::Tensor& logits_V) {
  return {logits_V.const_data_ptr<float>(), static_cast<size_t>(logits_V.numel())};
}

}  // namespace

Scheduler::Scheduler(SharedBatch& batch, const Tokenizer& tokenizer, std::vector<int64_t> stop_ids,
                     int64_t length, const SchedulerLimits& limits)
    : batch_(batch),
      tokenizer_(tokenizer),
      stop_ids_(std::move(stop_ids)),
      length_(length),
      limits_(limits) {}

bool Scheduler::submit(const std::vector<std::shared_ptr<Job>>& jobs) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || std::ssize(queue_) + std::ssize(jobs) > limits_.queue) return false;
    queue_.insert(queue_.end(), jobs.begin(), jobs.end());
    counts_.waiting = std::ssize(queue_);
  }
  submitted_.notify_one();
  return true;
}

std::vector<std::shared_ptr<Job>> Scheduler::next_jobs(size_t most) {
  std::vector<std::shared_ptr<Job>> jobs;
  const std::lock_guard lock(mutex_);
  while (!queue_.empty() && jobs.size() < most) {
    if (queue_.front()->cancelled()) {
      ++counts_.cancelled;
    } else {
      jobs.push_back(queue_.front());
    }
    queue_.pop_front();
  }
  counts_.waiting = std::ssize(queue_);
  return jobs;
}

void Scheduler::wait_for_work() {
  std::unique_lock lock(mutex_);
  if (!submitted_.wait_for(lock, kPatience, [&] { return !queue_.empty(); })) {
    lock.unlock();
    batch_.idle();
  }
}

void Scheduler::run(const std::function<bool()>& stopping) {
  try {
    while (!stopping()) {
      admit();
      if (rows_.empty()) {
        wait_for_work();
      } else {
        step();
      }
    }
  } catch (const std::exception& error) {
    fail_all(error.what());
    throw;
  }
  fail_all("the server is shutting down");
  batch_.end();
}

void Scheduler::admit() {
  std::vector<Row> admitted;
  std::vector<std::vector<int64_t>> prompts;
  for (std::shared_ptr<Job>& job : next_jobs(static_cast<size_t>(limits_.rows) - rows_.size())) {
    counts_.prompt_tokens += std::ssize(job->request().prompt);
    Row row{job, TextStream(tokenizer_, job->request().stops)};
    if (job->request().echo && echo(row)) continue;
    prompts.push_back(job->request().prompt);
    admitted.push_back(std::move(row));
  }
  if (prompts.empty()) return;
  const at::Tensor logits_BV = batch_.add(prompts);
  std::vector<int64_t> stay;
  const auto before = static_cast<int64_t>(rows_.size());
  for (int64_t row = 0; row < before; ++row) stay.push_back(row);
  for (int64_t row = 0; row < std::ssize(admitted); ++row) {
    Row& own = admitted[static_cast<size_t>(row)];
    if (!continues(own, logits_BV[row])) continue;
    stay.push_back(before + row);
    rows_.push_back(std::move(own));
  }
  batch_.keep(stay);
  counts_.running = std::ssize(rows_);
}

bool Scheduler::echo(Row& row) {
  const CompletionRequest& request = row.job->request();
  at::Tensor last_V;
  const auto tell = [&](ServedToken token) {
    token.of_prompt = true;
    row.job->tell({JobEvent::Kind::kToken, std::move(token)});
  };
  tell({request.prompt[0]});
  batch_.score(request.prompt, [&](int64_t begin, const at::Tensor& logits_TV) {
    for (int64_t t = 0; t < logits_TV.size(0); ++t) {
      const int64_t next = begin + t + 1;
      if (next == std::ssize(request.prompt)) break;
      tell(served(request, request.prompt[static_cast<size_t>(next)], logits_TV[t]));
    }
    last_V = logits_TV[logits_TV.size(0) - 1].clone();
  });
  if (request.max_tokens == 0) {
    end(row, FinishReason::kLength);
    return true;
  }
  // A single token needs no cache.
  return request.max_tokens == 1 && !continues(row, last_V);
}

void Scheduler::step() {
  std::vector<int64_t> ids;
  for (const Row& row : rows_) ids.push_back(row.last);
  const at::Tensor logits_BV = batch_.step(ids);
  ++counts_.steps;
  std::vector<Row> rows;
  std::vector<int64_t> stay;
  for (int64_t row = 0; row < std::ssize(rows_); ++row) {
    Row& own = rows_[static_cast<size_t>(row)];
    if (!continues(own, logits_BV[row])) continue;
    stay.push_back(row);
    rows.push_back(std::move(own));
  }
  rows_ = std::move(rows);
  batch_.keep(stay);
  counts_.running = std::ssize(rows_);
}

bool Scheduler::continues(Row& row, const at::Tensor& logits_V) {
  Job& job = *row.job;
  if (job.cancelled()) {
    ++counts_.cancelled;
    return false;
  }
  const CompletionRequest& request = job.request();
  int64_t id = 0;
  try {
    id = sample(span_of(logits_V), request.sampling, request.sequence,
                static_cast<uint64_t>(row.generated));
  } catch (const InputError& error) {
    job.tell({JobEvent::Kind::kFailure, {}, error.what(), FinishReason::kLength});
    return false;
  }
  ++row.generated;
  ++counts_.generated_tokens;
  row.last = id;
  ServedToken token = served(request, id, logits_V);
  token.text = row.text.add(static_cast<TokenId>(id));
  job.tell({JobEvent::Kind::kToken, std::move(token)});
  const bool is_stop = !request.ignore_stop_ids &&
                       std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
  if (is_stop || row.text.stopped()) {
    end(row, FinishReason::kStop);
    return false;
  }
  if (row.generated == request.max_tokens ||
      std::ssize(request.prompt) + row.generated == length_) {
    end(row, FinishReason::kLength);
    return false;
  }
  return true;
}

ServedToken Scheduler::served(const CompletionRequest& request, int64_t id,
                              const at::Tensor& logits_V) const {
  ServedToken token{id};
  if (request.logprobs < 0) return token;
  const at::Tensor log_probabilities_V = at::log_softmax(logits_V, -1);
  token.log_probability = log_probabilities_V[id].item<double>();
  const int64_t count = std::min(request.logprobs, logits_V.numel());
  if (count == 0) return token;
  const auto [values, ids] = log_probabilities_V.topk(count);
  for (int64_t i = 0; i < count; ++i) {
    token.top.emplace_back(ids[i].item<int64_t>(), values[i].item<double>());
  }
  return token;
}

void Scheduler::end(Row& row, FinishReason reason) {
  ++counts_.finished;
  std::string rest = row.text.finish();
  // A stop string may have been complete only with what was held back.
  if (row.text.stopped()) reason = FinishReason::kStop;
  row.job->tell({JobEvent::Kind::kEnd, {}, std::move(rest), reason});
}

void Scheduler::fail_all(const std::string& why) {
  std::deque<std::shared_ptr<Job>> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(queue_);
    counts_.waiting = 0;
  }
  for (Row& row : rows_) left.push_back(row.job);
  rows_.clear();
  counts_.running = 0;
  for (const std::shared_ptr<Job>& job : left) {
    job->tell({JobEvent::Kind::kFailure, {}, why, FinishReason::kLength});
  }
}

}  // namespace halftone
