#include "formats/stored_tensor.h"

#include <ATen/ATen.h>

#include "formats/tensor_bridge.h"

namespace halftone {

StoredTensor stored_plainly(const TensorInfo& info, int expert) {
  return {info.name, info.shape, info.dtype, {{info.name}}, info.bytes, nullptr, false, expert};
}

at::Tensor decode_stored(const StoredTensor& stored, const std::vector<at::Tensor>& pieces,
                         ThreadPool* pool) {
  if (stored.codec != nullptr) {
    return stored.codec->decode(pieces, stored.shape, scalar_type_of(stored.dtype), pool);
  }
  if (!stored.transposed) return pieces.front().view(stored.shape);
  // Every reader of a weight expects it output-major and contiguous.
  return pieces.front().view({stored.shape[1], stored.shape[0]}).t().contiguous();
}

}  // namespace halftone
