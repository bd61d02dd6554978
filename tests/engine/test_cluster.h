#pragma once

#include <ATen/Parallel.h>

#include <memory>

#include "engine/cluster.h"
#include "tests/model/tiny_checkpoint.h"
#include "tests/support/shared_folder.h"
#include "text/batches.h"

namespace halftone::test {

// What src/app sets up for a CPU run.
class TestCluster {
 public:
  explicit TestCluster(int threads = 2)
      : ranks_(make_mpi_communicator(test_world())),
        pool_(threads, [] { at::set_num_threads(1); }) {
    at::set_num_threads(1);
    if (ranks_->size() == 1) return;
    meeting_ = std::make_unique<Rendezvous>(test_world());
    loading_ranks_ = make_mpi_communicator(test_world());
    loading_ = std::make_unique<Loading>(Loading{*meeting_, *loading_ranks_});
  }

  Cluster get() {
    return {test_world(), *ranks_, *ranks_, pool_, at::Device(at::kCPU), loading_.get()};
  }
  int rank() const { return ranks_->rank(); }
  int size() const { return ranks_->size(); }
  Communicator& ranks() { return *ranks_; }

 private:
  std::unique_ptr<Communicator> ranks_;
  std::unique_ptr<Rendezvous> meeting_;  // of more than one rank
  std::unique_ptr<Communicator> loading_ranks_;
  std::unique_ptr<Loading> loading_;
  ThreadPool pool_;
};

// Every rank opens the checkpoint that rank 0 wrote.
inline Checkpoint shared_checkpoint(const SharedFolder& folder, const Json& config,
                                    const Tensors& tensors, const std::string& name = "model") {
  folder.on_first([&] {
    fs::create_directories(folder.path() / name);
    write_checkpoint(folder.path() / name, config, tensors);
  });
  return Checkpoint(folder.path() / name);
}

// Rows of different lengths of made-up ids below 40.
inline std::vector<Batch> tiny_batches(int64_t samples, int64_t batch_size, PadSide side) {
  std::vector<Sample> list;
  for (int64_t i = 0; i < samples; ++i) {
    Sample sample;
    for (int64_t t = 0; t < 5 + i * 3 % 7; ++t) {
      sample.ids.push_back(static_cast<TokenId>((i * 11 + t * 7) % 40));
    }
    list.push_back(sample);
  }
  return make_batches(list, batch_size, 0, side, true);
}

}  // namespace halftone::test
