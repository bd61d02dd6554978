#include "calibrate/broadcast.h"

#include "kernels/check.h"

namespace halftone {

void broadcast_tensor(Communicator& ranks, at::Tensor& tensor, int root) {
  check(tensor.is_contiguous() && tensor.is_cpu(), "a broadcast takes contiguous host memory");
  if (tensor.numel() == 0) return;
  ranks.broadcast(tensor.mutable_data_ptr(), static_cast<int64_t>(tensor.nbytes()), root);
}

}  // namespace halftone
