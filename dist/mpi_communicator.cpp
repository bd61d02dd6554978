#include "dist/mpi_communicator.h"

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "dist/activity.h"
#include "dist/mpi_error.h"
#include "dist/world.h"
#include "kernels/check.h"

namespace halftone {
namespace {

constexpr int64_t kLargestMessage = int64_t{1} << 30;

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return MPI_FLOAT;
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kI32:
      return MPI_INT32_T;
    case DType::kI64:
      return MPI_INT64_T;
    default:
      check(false, "all_reduce takes F32, F64, I32 and I64");
      return MPI_DATATYPE_NULL;
  }
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(const World& world, int64_t largest_message)
      : rank_(world.rank()),
        size_(world.size()),
        host_(world.host()),
        activity_(&world.activity()),
        largest_message_(largest_message) {
    check(largest_message >= 8 && largest_message <= INT_MAX, "message lengths are ints");
    require(MPI_Comm_dup(MPI_COMM_WORLD, &handle_), "making a communicator");
    MPI_Comm_set_errhandler(handle_, MPI_ERRORS_RETURN);
  }
  // A rank that unwinds must not wait for its peers, as freeing may do.
  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() == 0) MPI_Comm_free(&handle_);
  }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Device device() const override { return Device::kCpu; }

  void barrier() override {
    const Activity::Collective collective(activity_, "barrier");
    require(MPI_Barrier(handle_), "barrier");
  }
  void broadcast(void* data, int64_t bytes, int root) override;
  void all_reduce(void* data, int64_t count, DType dtype, ReduceOp op) override;
  void all_gather(void* data, int64_t bytes_per_rank) override;
  void all_gather_variable(const void* mine, const int64_t* bytes_per_rank, void* out) override;

 private:
  void require(int status, const char* operation) const {
    require_mpi(status, operation, rank_, host_);
  }
  // Rank r's part lies at data + starts[r] and ends at starts[r + 1].
  void gather_around_ring(char* data, const std::vector<int64_t>& starts);
  template <typename Start>
  void start_pieces(char* data, int64_t bytes, std::vector<MPI_Request>& requests, Start start);

  int rank_;
  int size_;
  std::string host_;
  Activity* activity_;
  int64_t largest_message_;
  MPI_Comm handle_ = MPI_COMM_NULL;
};

void MpiCommunicator::broadcast(void* data, int64_t bytes, int root) {
  const Activity::Collective collective(activity_, "broadcast");
  check(root >= 0 && root < size_, "root is not a rank");
  auto* at = static_cast<char*>(data);
  for (int64_t done = 0; done < bytes; done += largest_message_) {
    const auto length = static_cast<int>(std::min(bytes - done, largest_message_));
    require(MPI_Bcast(at + done, length, MPI_BYTE, root, handle_), "broadcast");
  }
}

void MpiCommunicator::all_reduce(void* data, int64_t count, DType dtype, ReduceOp op) {
  const Activity::Collective collective(activity_, "all-reduce");
  const MPI_Datatype type = mpi_type(dtype);
  const MPI_Op operation = op == ReduceOp::kMax ? MPI_MAX : MPI_SUM;
  const int64_t element = size_of(dtype);
  const int64_t largest_count = largest_message_ / element;
  auto* at = static_cast<char*>(data);
  for (int64_t done = 0; done < count; done += largest_count) {
    const auto length = static_cast<int>(std::min(count - done, largest_count));
    require(MPI_Allreduce(MPI_IN_PLACE, at + done * element, length, type, operation, handle_),
            "all-reduce");
  }
}

void MpiCommunicator::all_gather(void* data, int64_t bytes_per_rank) {
  const Activity::Collective collective(activity_, "all-gather");
  if (bytes_per_rank == 0) return;
  // MPI's own algorithms may multiply in ints, so the whole result must fit one message.
  if (bytes_per_rank * size_ <= largest_message_) {
    require(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data,
                          static_cast<int>(bytes_per_rank), MPI_BYTE, handle_),
            "all-gather");
    return;
  }
  std::vector<int64_t> starts(static_cast<size_t>(size_) + 1);
  for (size_t r = 0; r < starts.size(); ++r) starts[r] = static_cast<int64_t>(r) * bytes_per_rank;
  gather_around_ring(static_cast<char*>(data), starts);
}

void MpiCommunicator::all_gather_variable(const void* mine, const int64_t* bytes_per_rank,
                                          void* out) {
  const Activity::Collective collective(activity_, "all-gather");
  const auto ranks = static_cast<size_t>(size_);
  std::vector<int64_t> starts(ranks + 1, 0);
  for (size_t r = 0; r < ranks; ++r) starts[r + 1] = starts[r] + bytes_per_rank[r];
  auto* at = static_cast<char*>(out);
  char* my_place = at + starts[static_cast<size_t>(rank_)];
  const int64_t my_bytes = bytes_per_rank[rank_];
  if (my_bytes > 0 && mine != my_place) {
    std::memmove(my_place, mine, static_cast<size_t>(my_bytes));
  }
  if (starts.back() > largest_message_) {
    gather_around_ring(at, starts);
    return;
  }
  const std::vector<int> lengths(bytes_per_rank, bytes_per_rank + size_);
  const std::vector<int> places(starts.begin(), starts.end());
  require(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out, lengths.data(), places.data(),
                         MPI_BYTE, handle_),
          "all-gather");
}

template <typename Start>
void MpiCommunicator::start_pieces(char* data, int64_t bytes, std::vector<MPI_Request>& requests,
                                   Start start) {
  for (int64_t done = 0; done < bytes; done += largest_message_) {
    const auto length = static_cast<int>(std::min(bytes - done, largest_message_));
    requests.push_back(MPI_REQUEST_NULL);
    require(start(data + done, length, &requests.back()), "all-gather");
  }
}

// In every step each rank passes on the part it got in the step before, so that all links are busy
// and nothing is copied twice.
void MpiCommunicator::gather_around_ring(char* data, const std::vector<int64_t>& starts) {
  constexpr int kTag = 0;
  const int next = (rank_ + 1) % size_;
  const int previous = (rank_ + size_ - 1) % size_;
  std::vector<MPI_Request> requests;
  for (int step = 0; step + 1 < size_; ++step) {
    const auto sent = static_cast<size_t>((rank_ - step + size_) % size_);
    const auto received = static_cast<size_t>((rank_ - step - 1 + size_) % size_);
    requests.clear();
    start_pieces(data + starts[received], starts[received + 1] - starts[received], requests,
                 [&](char* at, int length, MPI_Request* request) {
                   return MPI_Irecv(at, length, MPI_BYTE, previous, kTag, handle_, request);
                 });
    start_pieces(data + starts[sent], starts[sent + 1] - starts[sent], requests,
                 [&](char* at, int length, MPI_Request* request) {
                   return MPI_Isend(at, length, MPI_BYTE, next, kTag, handle_, request);
                 });
    require(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE),
            "all-gather");
  }
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const World& world, int64_t largest_message) {
  if (world.size() == 1) return make_lone_communicator();
  return std::make_unique<MpiCommunicator>(world, largest_message);
}

std::unique_ptr<Communicator> make_mpi_communicator(const World& world) {
  return make_mpi_communicator(world, kLargestMessage);
}

}  // namespace halftone
