#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/statistics_store.h"
#include "kernels/thread_pool.h"

namespace halftone {

// Something in which two checkpoints or stores differ.
struct Difference {
  // only-in-a, only-in-b, dtype, shape, bytes, weight (a linear, dequantized), config, value, meta
  std::string kind;
  std::string name;
  std::string file;  // of A, or of B where A has none
  std::string a;
  std::string b;
  std::optional<double> db;  // of A over its difference to B
};

struct Comparison {
  std::vector<Difference> differences;
  int64_t compared = 0;  // names that both have
  int64_t equal = 0;
};

// Tensor by tensor: names, dtypes, shapes and bytes, and the members of config.json and
// hf_quant_config.json. Linears whose stored tensors differ are compared once more as the weights
// that they stand for, where both models are known (`family`: make_model), so that an original can
// be compared with its export too.
Comparison compare_checkpoints(const Checkpoint& a, const Checkpoint& b, const std::string& family,
                               ThreadPool& pool);
// Two calibration stores: datasets of linears, texts, progress.
Comparison compare_stores(const StatisticsStore& a, const StatisticsStore& b);

}  // namespace halftone
