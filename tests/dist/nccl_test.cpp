#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "dist/communicator.h"
#include "tests/dist/collective_cases.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

void require(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t bytes) {
    require(cudaMalloc(&data_, static_cast<size_t>(bytes) + 1));
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() { return data_; }
  void upload(const void* from, int64_t bytes) {
    require(cudaMemcpy(data_, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice));
  }
  void download(void* to, int64_t bytes) const {
    require(cudaMemcpy(to, data_, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost));
  }

 private:
  void* data_ = nullptr;
};

int gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

class NcclCommunicatorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (gpus() < test_world().local_size()) {
      GTEST_SKIP() << test_world().local_size() << " ranks need as many GPUs, found " << gpus();
    }
    require(cudaSetDevice(test_world().local_rank()));
    communicator_ = make_nccl_communicator(test_world());
  }

  std::unique_ptr<Communicator> communicator_;
};

TEST_F(NcclCommunicatorTest, KnowsItsPlace) {
  EXPECT_EQ(communicator_->rank(), test_world().rank());
  EXPECT_EQ(communicator_->size(), test_world().size());
  EXPECT_EQ(communicator_->device(), Device::kCuda);
}

TEST_F(NcclCommunicatorTest, AllReduces) {
  cases::expect_all_reduced<DeviceBuffer>(*communicator_);
}
TEST_F(NcclCommunicatorTest, Broadcasts) {
  cases::expect_broadcast<DeviceBuffer>(*communicator_);
}
TEST_F(NcclCommunicatorTest, Gathers) {
  cases::expect_gathered<DeviceBuffer>(*communicator_);
}

TEST_F(NcclCommunicatorTest, PassesBarriers) {
  for (int i = 0; i < 10; ++i) communicator_->barrier();
}

}  // namespace
}  // namespace halftone
