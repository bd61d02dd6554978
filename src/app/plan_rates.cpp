#include "app/plan_rates.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/progress.h"
#include "formats/tensor_bridge.h"
#include "kernels/thread_pool.h"

namespace halftone {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kSlice = int64_t{64} << 20;

double per_second(double amount, Clock::time_point start) {
  return amount / std::max(1e-9, seconds_since(start));
}

// The system's cache would answer instead of the disk.
void drop_cache(const fs::path& file) {
  const int handle = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (handle < 0) return;
  ::posix_fadvise(handle, 0, 0, POSIX_FADV_DONTNEED);
  ::close(handle);
}

double measure_read(const Checkpoint& checkpoint) {
  std::vector<char> buffer;
  double bytes = 0.0;
  double seconds = 0.0;
  for (const std::string& name : checkpoint.names()) {
    if (bytes >= static_cast<double>(kSlice)) break;
    const int64_t size = std::min(checkpoint.info(name).bytes, kSlice);
    buffer.resize(static_cast<size_t>(size));
    drop_cache(checkpoint.file_of(name));
    const auto start = Clock::now();
    checkpoint.read(name, 0, size, buffer.data());
    seconds += seconds_since(start);
    bytes += static_cast<double>(size);
  }
  return bytes / std::max(1e-9, seconds);
}

double measure_write(const fs::path& folder) {
  const std::vector<char> data(static_cast<size_t>(kSlice), 1);
  const fs::path path = folder / "bandwidth.partial";
  const auto start = Clock::now();
  {
    File file = File::create(path);
    file.write_at(0, data.data(), kSlice);
    file.sync();
    file.close();
  }
  const double rate = per_second(static_cast<double>(kSlice), start);
  std::error_code ignored;
  fs::remove(path, ignored);
  return rate;
}

double measure_memory() {
  std::vector<char> from(static_cast<size_t>(kSlice), 1);
  std::vector<char> to(from.size());
  const auto start = Clock::now();
  std::memcpy(to.data(), from.data(), from.size());
  from[0] = to[from.size() - 1];
  std::memcpy(to.data(), from.data(), from.size());
  return per_second(4.0 * static_cast<double>(kSlice), start);
}

double measure_network(Communicator& ranks) {
  const int64_t part = (int64_t{16} << 20) / ranks.size();
  std::vector<char> data(static_cast<size_t>(part * ranks.size()));
  ranks.barrier();
  const auto start = Clock::now();
  ranks.all_gather(data.data(), part);
  return per_second(static_cast<double>(part * (ranks.size() - 1)), start);
}

double measure_flops(DType dtype, int threads, bool gpu) {
  const int64_t size = gpu ? 8192 : 512;
  const auto options =
      at::TensorOptions(scalar_type_of(dtype)).device(gpu ? at::Device(at::kCUDA) : at::kCPU);
  const at::Tensor x = at::ones({size, size}, options);
  ThreadPool pool(gpu ? 1 : threads);
  const int64_t times = gpu ? 4 : 8 * threads;
  const auto multiply = [&](int64_t /*index*/) { at::mm(x, x); };
  pool.for_each(threads, multiply);
  const auto done = [&] { return gpu ? at::mm(x, x).sum().item<double>() : 0.0; };
  done();
  const auto start = Clock::now();
  pool.for_each(times, multiply);
  done();
  const double products = static_cast<double>(times + (gpu ? 1 : 0));
  return per_second(products * 2.0 * static_cast<double>(size * size * size), start);
}

}  // namespace

void add_rate_options(Options& options) {
  options.group("Rates, per second");
  options.flag("measure", "measure them here: read, write, send and multiply a little");
  options.bytes("read-bandwidth", "a host reads the checkpoint; auto: 2GB");
  options.bytes("write-bandwidth", "a host writes the output; auto: 1GB");
  options.bytes("network-bandwidth", "a rank receives from others; auto: 10GB, with GPUs 50GB");
  options.number("flops", 0.0, 0.0, 1e18,
                 "operations of a rank; 0: 50e9 for each thread, 300e12 of a GPU");
}

Rates rates_of(const Options& options, const Checkpoint& checkpoint, const fs::path& folder,
               DType compute_dtype, bool gpu, int threads, Communicator& ranks) {
  Rates rates;
  rates.network = gpu ? 50e9 : 10e9;
  rates.memory = gpu ? 1e12 : 5e9;
  rates.flops = gpu ? 300e12 : 50e9 * threads;
  if (options.get_flag("measure")) {
    rates.read = measure_read(checkpoint);
    rates.write = measure_write(folder);
    if (ranks.size() > 1) rates.network = measure_network(ranks);
    const bool here = !gpu || at::hasCUDA();
    if (!gpu) rates.memory = measure_memory();
    if (here) rates.flops = measure_flops(compute_dtype, threads, gpu);
  }
  const auto stated = [&](const char* name, double& rate) {
    const int64_t value = options.get_bytes(name);
    if (value > 0) rate = static_cast<double>(value);
  };
  stated("read-bandwidth", rates.read);
  stated("write-bandwidth", rates.write);
  stated("network-bandwidth", rates.network);
  if (options.get_number("flops") > 0.0) rates.flops = options.get_number("flops");
  return rates;
}

}  // namespace halftone
