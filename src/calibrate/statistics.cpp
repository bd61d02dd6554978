#include "calibrate/statistics.h"

#include <algorithm>

#include "dist/reductions.h"

namespace halftone {
namespace {

void take_maxima(std::vector<float>& into, const std::vector<float>& from) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], from[i]);
}

}  // namespace

StageStatistics::StageStatistics(const StageSpec& stage)
    : input_amax(stage.linears.size(), MaxBucket::kAbsent),
      key_amax(stage.attentions.size(), MaxBucket::kAbsent),
      value_amax(stage.attentions.size(), MaxBucket::kAbsent),
      tokens(stage.linears.size(), 0) {}

void StageStatistics::merge(const StageStatistics& other) {
  take_maxima(input_amax, other.input_amax);
  take_maxima(key_amax, other.key_amax);
  take_maxima(value_amax, other.value_amax);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] += other.tokens[i];
}

void StageStatistics::reduce(Communicator& communicator) {
  MaxBucket bucket;
  bucket.add(input_amax);
  bucket.add(key_amax);
  bucket.add(value_amax);
  bucket.reduce(communicator);
  communicator.all_reduce(tokens.data(), static_cast<int64_t>(tokens.size()), DType::kI64,
                          ReduceOp::kSum);
}

}  // namespace halftone
