#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/context.h"

namespace halftone {

class World;

enum class ReduceOp : uint8_t { kMax, kSum };

// Collectives over all ranks of a run. Every rank must call the same ones in the same order with
// the same sizes. Pointers are host pointers for the MPI implementation and device pointers for
// NCCL's. A failed collective throws PeerError that names the rank, the host and the operation.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Which memory the pointers are of.
  virtual Device device() const = 0;

  virtual void barrier() = 0;
  virtual void broadcast(void* data, int64_t bytes, int root) = 0;
  // dtype F32, F64, I32 or I64. kSum adds in an unspecified order: use it for integers only;
  // floating-point sums go through reductions.h.
  virtual void all_reduce(void* data, int64_t count, DType dtype, ReduceOp op) = 0;
  // In place: rank r's part lies at data + r * bytes_per_rank.
  virtual void all_gather(void* data, int64_t bytes_per_rank) = 0;
  // Rank r gives bytes_per_rank[r] bytes, which land one behind the other in `out` in rank order.
  virtual void all_gather_variable(const void* mine, const int64_t* bytes_per_rank, void* out) = 0;
};

std::unique_ptr<Communicator> make_mpi_communicator(const World& world);
// When a collective on a GPU begins: behind everything that was queued there before, or at once,
// beside the computation, on memory that nothing queued touches.
enum class GpuOrder : uint8_t { kBehind, kBeside };
// One GPU per rank: the current CUDA device. Throws UsageError in a build without NCCL.
std::unique_ptr<Communicator> make_nccl_communicator(const World& world,
                                                     GpuOrder order = GpuOrder::kBehind);
// Of NCCL and the GPU driver: "NCCL 22705, driver 13000", or "none" in a build without NCCL.
std::string nccl_version();

}  // namespace halftone
