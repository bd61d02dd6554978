#include "evaluate/serving/metrics.h"

#include "core/log.h"

namespace halftone {
namespace {

std::string metric(const char* name, const char* kind, const char* help, int64_t value) {
  return concat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n", name, " ", value,
                "\n");
}

}  // namespace

void Metrics::count(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++answers_[{route, status}];
}

std::string Metrics::text(const ServingCounts& counts) const {
  std::string text = metric("halftone_prompt_tokens_total", "counter", "Tokens of prompts.",
                            counts.prompt_tokens) +
                     metric("halftone_generated_tokens_total", "counter",
                            "Tokens of continuations.", counts.generated_tokens) +
                     metric("halftone_sequences_finished_total", "counter",
                            "Sequences that came to their end.", counts.finished) +
                     metric("halftone_sequences_cancelled_total", "counter",
                            "Sequences whose client went away.", counts.cancelled) +
                     metric("halftone_steps_total", "counter",
                            "Forward passes of all running sequences.", counts.steps) +
                     metric("halftone_sequences_running", "gauge",
                            "Sequences that are being continued.", counts.running) +
                     metric("halftone_sequences_waiting", "gauge",
                            "Sequences that wait for their turn.", counts.waiting) +
                     "# HELP halftone_http_responses_total Answers by route and status.\n"
                     "# TYPE halftone_http_responses_total counter\n";
  const std::lock_guard lock(mutex_);
  for (const auto& [answer, number] : answers_) {
    text += concat("halftone_http_responses_total{route=\"", answer.first, "\",status=\"",
                   answer.second, "\"} ", number, "\n");
  }
  return text;
}

}  // namespace halftone
