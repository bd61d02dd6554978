#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "dist/activity.h"
#include "dist/communicator.h"
#include "dist/world.h"
#include "kernels/check.h"

namespace halftone {
namespace {

// Who speaks, for the texts of errors.
struct Place {
  int rank = 0;
  std::string host;
  int device = 0;

  std::string text(const char* operation) const {
    return concat(operation, " failed on rank ", rank, " (host ", host, ", GPU ", device, "): ");
  }
  void require(cudaError_t status, const char* operation) const {
    if (status != cudaSuccess) throw PeerError(text(operation) + cudaGetErrorString(status));
  }
};

int current_gpu(const World& world) {
  int device = 0;
  const cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) return device;
  throw ResourceError(concat("rank ", world.rank(), " (host ", world.host(),
                             ") has no GPU: ", cudaGetErrorString(status)));
}

// Makes a GPU current for a scope: threads start with GPU 0.
class CurrentGpu {
 public:
  explicit CurrentGpu(const Place& place) {
    place.require(cudaGetDevice(&previous_), "selecting the GPU");
    place.require(cudaSetDevice(place.device), "selecting the GPU");
  }
  ~CurrentGpu() { cudaSetDevice(previous_); }
  CurrentGpu(const CurrentGpu&) = delete;
  CurrentGpu& operator=(const CurrentGpu&) = delete;

 private:
  int previous_ = 0;
};

// A stream with CUDA's default ordering waits for what the default stream was given before; one
// beside it does not.
class Stream {
 public:
  Stream(const Place& place, GpuOrder order) {
    const unsigned int flags =
        order == GpuOrder::kBeside ? cudaStreamNonBlocking : cudaStreamDefault;
    place.require(cudaStreamCreateWithFlags(&handle_, flags), "creating a stream");
  }
  ~Stream() { cudaStreamDestroy(handle_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t handle() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

// What a barrier reduces.
class DeviceWord {
 public:
  explicit DeviceWord(const Place& place) {
    place.require(cudaMalloc(&data_, sizeof(int32_t)), "allocating on the GPU");
    place.require(cudaMemset(data_, 0, sizeof(int32_t)), "clearing memory of the GPU");
  }
  ~DeviceWord() { cudaFree(data_); }
  DeviceWord(const DeviceWord&) = delete;
  DeviceWord& operator=(const DeviceWord&) = delete;

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

// NCCL's handle. After an error it is aborted, since the peers may never answer.
class NcclHandle {
 public:
  NcclHandle(const Place& place, int size, const ncclUniqueId& id) : place_(place) {
    // Not blocking: a peer that never comes must not hold this rank for ever.
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const char* operation = "making an NCCL communicator";
    const auto start = std::chrono::steady_clock::now();
    ncclResult_t status = ncclCommInitRankConfig(&handle_, size, id, place.rank, &config);
    while (is_under_way(status, operation)) {
      if (std::chrono::steady_clock::now() - start > kInitPatience) {
        abort();
        throw PeerError(place_.text(operation) + "not all ranks came within five minutes");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      status = state(operation);
    }
  }
  ~NcclHandle() {
    // A rank that unwinds must not wait for its peers.
    if (std::uncaught_exceptions() > 0) abort();
    if (handle_ == nullptr) return;
    if (finalized()) {
      ncclCommDestroy(handle_);
    } else {
      abort();
    }
  }
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;

  // Throws for a communicator that an earlier error ended.
  ncclComm_t get(const char* operation) const {
    if (handle_ == nullptr) throw PeerError(place_.text(operation) + "an earlier one failed");
    return handle_;
  }
  void require(ncclResult_t status, const char* operation) {
    if (status == ncclSuccess) return;
    const std::string reason = concat(ncclGetErrorString(status), "; ", ncclGetLastError(handle_));
    abort();
    throw PeerError(place_.text(operation) + reason);
  }
  // Until NCCL has taken the operation to its stream; the first ones connect the ranks, which takes
  // all of them. The watchdog ends a wait for a lost one.
  void wait_until_started(ncclResult_t status, const char* operation) {
    while (is_under_way(status, operation)) {
      std::this_thread::yield();
      status = state(operation);
    }
  }
  // Waits for the stream and, so that a lost peer ends the wait, for NCCL's own errors.
  void wait_for(const Stream& stream, const char* operation) {
    cudaError_t status = cudaStreamQuery(stream.handle());
    while (status == cudaErrorNotReady) {
      is_under_way(state(operation), operation);
      std::this_thread::yield();
      status = cudaStreamQuery(stream.handle());
    }
    if (status != cudaSuccess) abort();
    place_.require(status, operation);
  }

 private:
  void abort() {
    if (handle_ != nullptr) ncclCommAbort(handle_);
    handle_ = nullptr;
  }

  ncclResult_t state(const char* operation) {
    ncclResult_t found = ncclSuccess;
    require(ncclCommGetAsyncError(get(operation), &found), operation);
    return found;
  }
  // Throws unless it is that or a success.
  bool is_under_way(ncclResult_t status, const char* operation) {
    if (status != ncclInProgress) require(status, operation);
    return status == ncclInProgress;
  }
  bool finalized() {
    const auto start = std::chrono::steady_clock::now();
    ncclResult_t status = ncclCommFinalize(handle_);
    while (status == ncclInProgress &&
           std::chrono::steady_clock::now() - start < kFinalizePatience) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (ncclCommGetAsyncError(handle_, &status) != ncclSuccess) return false;
    }
    return status == ncclSuccess;
  }

  static constexpr std::chrono::minutes kInitPatience{5};
  static constexpr std::chrono::seconds kFinalizePatience{10};

  const Place& place_;
  ncclComm_t handle_ = nullptr;
};

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclInt64;
    default:
      check(false, "all_reduce takes F32, F64, I32 and I64");
      return ncclFloat32;
  }
}

bool is_accepted(ncclResult_t status) {
  return status == ncclSuccess || status == ncclInProgress;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Place place, const World& world, const ncclUniqueId& id, GpuOrder order)
      : place_(std::move(place)),
        size_(world.size()),
        activity_(&world.activity()),
        stream_(place_, order),
        word_(place_),
        handle_(place_, size_, id) {}

  int rank() const override { return place_.rank; }
  int size() const override { return size_; }
  Device device() const override { return Device::kCuda; }

  void barrier() override {
    run("barrier", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllReduce(word_.data(), word_.data(), 1, ncclInt32, ncclMax, comm, stream);
    });
  }

  void broadcast(void* data, int64_t bytes, int root) override {
    check(root >= 0 && root < size_, "root is not a rank");
    if (bytes == 0) return;
    run("broadcast", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclBroadcast(data, data, static_cast<size_t>(bytes), ncclUint8, root, comm, stream);
    });
  }

  void all_reduce(void* data, int64_t count, DType dtype, ReduceOp op) override {
    const ncclDataType_t type = nccl_type(dtype);
    if (count == 0) return;
    run("all-reduce", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllReduce(data, data, static_cast<size_t>(count), type,
                           op == ReduceOp::kMax ? ncclMax : ncclSum, comm, stream);
    });
  }

  void all_gather(void* data, int64_t bytes_per_rank) override {
    if (bytes_per_rank == 0) return;
    run("all-gather", [&](ncclComm_t comm, cudaStream_t stream) {
      const char* mine = static_cast<const char*>(data) + rank() * bytes_per_rank;
      return ncclAllGather(mine, data, static_cast<size_t>(bytes_per_rank), ncclUint8, comm,
                           stream);
    });
  }

  // NCCL gathers equal parts only, so each rank broadcasts its own, all as one operation.
  void all_gather_variable(const void* mine, const int64_t* bytes_per_rank, void* out) override {
    run("all-gather", [&](ncclComm_t comm, cudaStream_t stream) {
      char* at = static_cast<char*>(out);
      ncclResult_t status = ncclGroupStart();
      for (int root = 0; root < size_; ++root) {
        const int64_t bytes = bytes_per_rank[root];
        if (bytes > 0 && is_accepted(status)) {
          status = ncclBroadcast(root == rank() ? mine : at, at, static_cast<size_t>(bytes),
                                 ncclUint8, root, comm, stream);
        }
        at += bytes;
      }
      const ncclResult_t end = ncclGroupEnd();
      return is_accepted(status) ? end : status;
    });
  }

 private:
  template <typename Start>
  void run(const char* operation, Start start) {
    const CurrentGpu current(place_);
    const Activity::Collective collective(activity_, operation);
    handle_.wait_until_started(start(handle_.get(operation), stream_.handle()), operation);
    handle_.wait_for(stream_, operation);
  }

  Place place_;
  int size_;
  Activity* activity_;
  Stream stream_;
  DeviceWord word_;
  NcclHandle handle_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const World& world, GpuOrder order) {
  Place place{world.rank(), world.host(), current_gpu(world)};
  // Rank 0's failure goes along, so that nobody waits for a communicator that never comes.
  struct Invitation {
    ncclUniqueId id{};
    ncclResult_t status = ncclSuccess;
  } invitation;
  if (world.rank() == 0) invitation.status = ncclGetUniqueId(&invitation.id);
  make_mpi_communicator(world)->broadcast(&invitation, sizeof(invitation), 0);
  if (invitation.status != ncclSuccess) {
    throw PeerError(place.text("inviting to an NCCL communicator") +
                    ncclGetErrorString(invitation.status));
  }
  return std::make_unique<NcclCommunicator>(std::move(place), world, invitation.id, order);
}

std::string nccl_version() {
  int nccl = 0;
  int driver = 0;
  ncclGetVersion(&nccl);
  cudaDriverGetVersion(&driver);  // 0 without a driver
  return concat("NCCL ", nccl, ", driver ", driver);
}

}  // namespace halftone
