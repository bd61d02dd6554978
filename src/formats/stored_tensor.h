#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "io/stage_image.h"
#include "kernels/thread_pool.h"

namespace halftone {

// Where a tensor of the model lies in one that checkpoints stack over experts ([experts, ...]).
struct StackedSlice {
  std::string tensor;  // the name on disk, without ".weight"; empty: not stacked
  int64_t index = 0;   // of `count` equal parts along the first dimension
  int64_t count = 0;
  bool input_major = false;  // a part is stored as [in, out]
};

// A low-bit form in which a source checkpoint stores a weight. Immutable.
class SourceCodec {
 public:
  virtual ~SourceCodec() = default;

  virtual std::string name() const = 0;
  // The weight [out, in] in `dtype`, rounded once, from its stored pieces.
  virtual at::Tensor decode(const std::vector<at::Tensor>& pieces,
                            const std::vector<int64_t>& shape, at::ScalarType dtype,
                            ThreadPool* pool) const = 0;
  // MXFP4: the bytes of the block exponents, uint8 [out, in / 32]; undefined for other codecs.
  virtual at::Tensor block_exponents(const std::vector<at::Tensor>& /*pieces*/) const { return {}; }
};

// How a checkpoint stores a tensor that a model needs, or a tensor of an export.
struct StoredTensor {
  std::string name;  // the model's; that on disk of a tensor that is stored plainly
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;        // of what decode_stored gives
  std::vector<TensorPiece> pieces;  // what to read; the first holds the weight's codes
  int64_t bytes = 0;                // of the pieces
  std::shared_ptr<const SourceCodec> codec = {};  // null: the piece itself
  bool transposed = false;                        // the piece is stored as [in, out]
  int expert = -1;
  bool keeps_dtype = false;
  // Tensors that say something of the stored form and are read while planning, if at all.
  std::vector<std::string> companions = {};
};

// A tensor under its own name, as it is.
StoredTensor stored_plainly(const TensorInfo& info, int expert = -1);

// The tensor in its shape; `pieces` are views of what was read, bytes (uint8) for FP8.
at::Tensor decode_stored(const StoredTensor& stored, const std::vector<at::Tensor>& pieces,
                         ThreadPool* pool);

}  // namespace halftone
