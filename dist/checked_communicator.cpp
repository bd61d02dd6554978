#include "dist/checked_communicator.h"

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "kernels/check.h"

namespace halftone {
namespace {

enum class Operation : int64_t { kBarrier, kBroadcast, kAllReduce, kAllGather, kGatherVariable };

// All fields are of eight bytes, so that no padding is compared.
struct Call {
  int64_t number = 0;
  Operation operation = Operation::kBarrier;
  int64_t amount = 0;  // bytes, or elements of a reduction
  int64_t detail = 0;  // the root, or a reduction's type and operation
  uint64_t parts = 0;  // of the bytes per rank, in order

  bool operator==(const Call&) const = default;
};

std::string text_of(const Call& call) {
  std::string text = concat("collective ", call.number, ", ");
  switch (call.operation) {
    case Operation::kBarrier:
      return text + "a barrier";
    case Operation::kBroadcast:
      return concat(text, "a broadcast of ", call.amount, " bytes from rank ", call.detail);
    case Operation::kAllReduce:
      return concat(text, "an all-reduce (", call.detail % 2 == 0 ? "maximum" : "sum", ") of ",
                    call.amount, " elements of ", name_of(static_cast<DType>(call.detail / 2)));
    case Operation::kAllGather:
      return concat(text, "an all-gather of ", call.amount, " bytes of each rank");
    case Operation::kGatherVariable:
      break;
  }
  return concat(text, "an all-gather of ", call.amount, " bytes in parts ", call.parts % 10'000);
}

// FNV-1a: tells lists apart, no more.
uint64_t hash_of(const int64_t* values, int count) {
  uint64_t hash = 14695981039346656037ULL;
  for (int i = 0; i < count; ++i) {
    hash = (hash ^ static_cast<uint64_t>(values[i])) * 1099511628211ULL;
  }
  return hash;
}

class CheckedCommunicator final : public Communicator {
 public:
  CheckedCommunicator(std::unique_ptr<Communicator> inner, std::unique_ptr<Communicator> checker)
      : inner_(std::move(inner)), checker_(std::move(checker)) {
    check(checker_->device() == Device::kCpu && checker_->size() == inner_->size() &&
              checker_->rank() == inner_->rank(),
          "the checker is a host communicator of the same ranks");
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  Device device() const override { return inner_->device(); }

  void barrier() override {
    compare({0, Operation::kBarrier, 0, 0, 0});
    inner_->barrier();
  }
  void broadcast(void* data, int64_t bytes, int root) override {
    compare({0, Operation::kBroadcast, bytes, root, 0});
    inner_->broadcast(data, bytes, root);
  }
  void all_reduce(void* data, int64_t count, DType dtype, ReduceOp op) override {
    const int64_t detail = 2 * static_cast<int64_t>(dtype) + (op == ReduceOp::kSum ? 1 : 0);
    compare({0, Operation::kAllReduce, count, detail, 0});
    inner_->all_reduce(data, count, dtype, op);
  }
  void all_gather(void* data, int64_t bytes_per_rank) override {
    compare({0, Operation::kAllGather, bytes_per_rank, 0, 0});
    inner_->all_gather(data, bytes_per_rank);
  }
  void all_gather_variable(const void* mine, const int64_t* bytes_per_rank, void* out) override {
    const int64_t total = std::accumulate(bytes_per_rank, bytes_per_rank + size(), int64_t{0});
    compare({0, Operation::kGatherVariable, total, 0, hash_of(bytes_per_rank, size())});
    inner_->all_gather_variable(mine, bytes_per_rank, out);
  }

 private:
  void compare(Call call) {
    call.number = ++calls_;
    std::vector<Call> all(static_cast<size_t>(size()));
    all[static_cast<size_t>(rank())] = call;
    checker_->all_gather(all.data(), sizeof(Call));
    for (size_t r = 1; r < all.size(); ++r) {
      if (all[r] == all[0]) continue;
      throw PeerError(concat("the ranks call different collectives: rank 0 ", text_of(all[0]),
                             "; rank ", r, ' ', text_of(all[r])));
    }
  }

  std::unique_ptr<Communicator> inner_;
  std::unique_ptr<Communicator> checker_;
  int64_t calls_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> make_checked_communicator(std::unique_ptr<Communicator> inner,
                                                        std::unique_ptr<Communicator> checker) {
  return std::make_unique<CheckedCommunicator>(std::move(inner), std::move(checker));
}

}  // namespace halftone
