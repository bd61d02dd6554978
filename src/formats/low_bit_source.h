#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "formats/stored_tensor.h"
#include "io/checkpoint.h"

namespace halftone {

// A weight that a model needs, and where to look for it.
struct SourceQuery {
  const Checkpoint& checkpoint;
  // config.json's quantization_config; null where there is none.
  const Json& quantization;
  std::string name;  // "...q_proj.weight"
  std::vector<int64_t> shape;
  StackedSlice stacked;
  DType dtype;  // the model's: what the weight is decoded to
};

// Whether config.json's quantization_config describes weights that halftone dequantizes as it
// loads: quant_method fp8, compressed-tensors or mxfp4.
bool is_low_bit_source(const Checkpoint& checkpoint);
// Those that can hold a model's weights: mxfp4 is read where experts are stacked alone.
std::vector<std::string> source_methods(bool stacked_experts);
// The configuration of such a source; null for others.
const Json& source_quantization(const Checkpoint& checkpoint);

// How a low-bit source stores the weight; null when it stores it plainly or not at all. Shapes and
// dtypes that do not fit the weight are InputErrors (formats-and-hf-export.md, 6).
std::optional<StoredTensor> find_low_bit(const SourceQuery& query);

// One function per file; low_bit_source.cpp tries them in order.
std::optional<StoredTensor> find_fp8_source(const SourceQuery& query);
std::optional<StoredTensor> find_packed_int_source(const SourceQuery& query);
std::optional<StoredTensor> find_int8_source(const SourceQuery& query);
std::optional<StoredTensor> find_mxfp4_source(const SourceQuery& query);

// For them: the weights' entry of a compressed-tensors configuration's first group; an empty object
// where there is none.
const Json& source_weights(const Json& quantization);
// Of packed integers: eight 4-bit codes, or four of 8 bits; other sizes are InputErrors.
int64_t codes_per_word(const Checkpoint& checkpoint, const Json& quantization);
// Adds a piece whose shape and dtype must be among these; InputError naming both otherwise.
void add_piece(const SourceQuery& query, const TensorPiece& piece,
               const std::vector<std::vector<int64_t>>& shapes, const std::vector<DType>& dtypes,
               StoredTensor& stored);
// rows x body(begin, end), in runs of `step` rows on the pool.
void for_row_runs(int64_t rows, int64_t step, ThreadPool* pool,
                  const std::function<void(int64_t begin, int64_t end)>& body);

}  // namespace halftone
