#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calibrate/observer.h"
#include "calibrate/target_plan.h"
#include "engine/residency.h"
#include "formats/stored_tensor.h"
#include "kernels/dtype.h"
#include "text/batches.h"

namespace halftone {

// The batches of a run, all of one size.
struct BatchShape {
  int64_t batches = 0;
  int64_t rows = 0;
  int64_t length = 0;
  int64_t encoder_length = 0;  // positions of the encoder; 0: none
  bool padded = false;
};
// What holds these.
BatchShape shape_of(const std::vector<Batch>& batches);

// What a run's memory follows from.
struct MemoryInputs {
  const std::vector<StageSpec>* specs = nullptr;
  const std::vector<std::vector<StoredTensor>>* stages = nullptr;  // as stored, per stage
  std::vector<const TargetPlan*> plans;
  std::vector<ObserveOptions> observe;  // per stage
  bool propagate_quantized = false;
  DType model_dtype = DType::kBF16;
  DType compute_dtype = DType::kBF16;
  int64_t hidden_size = 0;
  bool copies_weights = false;  // what is computed with is no view of what was loaded
  BatchShape batches;
  int64_t write_queue_bytes = 0;
  int64_t stage_limit = INT64_MAX;
  int ranks = 1;
  int threads = 1;
  bool gpu = false;
  Residency residency = Residency::kStream;
  // Of the weights' bytes that a rank holds in `compressed` or `resident`, all ranks together.
  int64_t held_bytes = 0;
  // Of the process before the first stage: libraries, headers, tokenizer, data.
  int64_t base_bytes = 0;
};

struct MemoryPart {
  std::string name;
  int64_t host_bytes = 0;
  int64_t device_bytes = 0;
};

// The predicted peak of one rank and what it is made of, at the moment when it is reached.
struct MemoryPlan {
  std::vector<MemoryPart> parts;
  std::string peak_stage;
  std::string peak_phase;  // "forward", "solve" or "pack"
  int64_t host_bytes = 0;
  int64_t device_bytes = 0;
};

// Of the rank that has the most to do.
MemoryPlan predict_memory(const MemoryInputs& inputs);

}  // namespace halftone
