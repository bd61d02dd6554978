#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "evaluate/generation/decoding_batch.h"
#include "evaluate/generation/sampling.h"
#include "io/checkpoint.h"

namespace halftone {

struct GenerationRequest {
  std::vector<int64_t> prompt;  // at least one token
  int64_t max_tokens = 0;       // at least 1; also ends where the model's length is reached
  Sampling sampling = {};
};

enum class FinishReason : uint8_t { kStop, kLength };
const char* name_of(FinishReason reason);

struct Generated {
  std::vector<int64_t> tokens;  // a token that ended it included
  FinishReason reason = FinishReason::kLength;
};

struct GenerationOptions {
  int64_t rows = 16;              // sequences that are continued at a time
  std::vector<int64_t> stop_ids;  // tokens that end a sequence
  // Whether a request's tokens so far are complete for another reason (stop strings); null: never.
  std::function<bool(size_t request, const std::vector<int64_t>& tokens)> complete = {};
  // Told in the order in which requests end; null: nobody asks.
  std::function<void(size_t request, const Generated& result)> done = {};
};

// The ids that end a sequence: generation_config.json's eos_token_id, else config.json's (one or a
// list). Ids that are none of the model's are InputErrors.
std::vector<int64_t> stop_ids_of(const Checkpoint& checkpoint, int64_t vocabulary);

// Continues all requests, `rows` at a time: when one ends, the next takes its place. Results are in
// the requests' order and do not depend, up to rounding, on `rows` or the number of ranks.
// Collective, with equal arguments on all ranks.
std::vector<Generated> generate(PlacedModel& model, const std::vector<GenerationRequest>& requests,
                                const GenerationOptions& options);

}  // namespace halftone
