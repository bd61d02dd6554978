#include <benchmark/benchmark.h>

#include <algorithm>

#include "kernels/amax.h"
#include "kernels/bench/block_suite.h"
#include "kernels/bench/integer_suite.h"
#include "kernels/bench/machine.h"
#include "kernels/bench/operation.h"
#include "kernels/fp8.h"
#include "kernels/int8.h"
#include "kernels/nvfp4.h"
#include "tests/kernels/all_operations.h"

// bench_kernels [TYPE/MACHINE...], for instance BF16/cuda; without: all of them.
// For every operation: GB/s of bytes read and written, the percentage of a plain copy's GB/s on the
// same machine in the same run, and the number of wrong bytes against tests/kernels/reference.h.
namespace halftone::bench {
namespace {

using testing::Matrix;
using testing::Results;

constexpr int64_t kCols = 8192;

// The operations of one element type on one machine, with everything they work on.
class Suite {
 public:
  Suite(Machine& machine, DType dtype)
      : machine_(machine), w_(make_weights(dtype, machine.bytes())) {
    const testing::Scales scales = testing::scales_of(w_);
    amax_ = scales.amax;
    fp8_scale_ = scales.fp8[0];
    nvfp4_scale_ = scales.nvfp4[0];
    device_w_ = machine.make(w_.bytes.size());
    machine.upload(w_.bytes, device_w_.get());
    device_y_ = machine.make(w_.bytes.size());
    codes_ = machine.make(static_cast<size_t>(w_.count()));
    machine.upload(testing::codes_of(w_.count()), codes_.get());
    out_ = machine.make(static_cast<size_t>(w_.count()));
    block_scales_ = machine.make(static_cast<size_t>(w_.count() / 16));
    machine.upload(testing::codes_of(w_.count() / 16), block_scales_.get());
    row_scales_ = machine.make(sizeof(float) * static_cast<size_t>(w_.rows));
    machine.upload(testing::bytes_of(scales.int8_rows[0]), row_scales_.get());
    row_amaxes_ = machine.make(sizeof(float) * static_cast<size_t>(w_.rows));
  }

  Buffers buffers() const {
    return {{device_w_.get(), w_.dtype, w_.rows, kCols},
            device_y_.get(),
            static_cast<const uint8_t*>(codes_.get()),
            static_cast<uint8_t*>(out_.get())};
  }
  const Matrix& weights() const { return w_; }

  std::vector<Operation> operations() {
    const int64_t n = w_.count();
    const int64_t wide = static_cast<int64_t>(w_.bytes.size());
    const Context context = machine_.context();
    const DType dtype = w_.dtype;
    const int64_t rows = w_.rows;
    const MatrixView w{device_w_.get(), dtype, rows, kCols};
    void* const y = device_y_.get();
    auto* const codes = static_cast<uint8_t*>(codes_.get());
    auto* const out = static_cast<uint8_t*>(out_.get());
    auto* const blocks = static_cast<uint8_t*>(block_scales_.get());
    auto* const row_scales = static_cast<float*>(row_scales_.get());
    auto* const row_amaxes = static_cast<float*>(row_amaxes_.get());
    return {
        {"copy", 2 * wide, [=, this] { machine_.copy(w.data, y, w_.bytes.size()); }},
        {"amax_of_tensor", wide,
         [=] { benchmark::DoNotOptimize(amax_of_tensor(context, w).value); }},
        {"amax_of_rows", wide, [=] { amax_of_rows(context, w, row_amaxes); }},
        {"quantize_fp8", wide + n,
         [=, this] { quantize_fp8(context, w, fp8_scale_, Numerics::kCpu, out); }},
        {"dequantize_fp8", wide + n,
         [=, this] { dequantize_fp8(context, codes, rows, kCols, fp8_scale_, dtype, y); }},
        {"fake_quantize_fp8", 2 * wide, [=, this] { fake_quantize_fp8(context, w, amax_, y); }},
        {"quantize_int8_rows", wide + n,
         [=] { quantize_int8_rows(context, w, row_scales, reinterpret_cast<int8_t*>(out)); }},
        {"dequantize_int8_rows", wide + n,
         [=] {
           dequantize_int8_rows(context, reinterpret_cast<const int8_t*>(codes), rows, kCols,
                                row_scales, dtype, y);
         }},
        {"quantize_nvfp4", wide + n / 2 + n / 16,
         [=, this] { quantize_nvfp4(context, w, 16, nvfp4_scale_, out, blocks); }},
        {"dequantize_nvfp4", wide + n / 2 + n / 16,
         [=, this] {
           dequantize_nvfp4(context, codes, blocks, rows, kCols, 16, nvfp4_scale_, dtype, y);
         }},
        {"fake_quantize_nvfp4", 2 * wide, [=, this] { fake_quantize_nvfp4(context, w, amax_, y); }},
    };
  }

 private:
  // Normally distributed rows as weights are, repeated: random numbers for all would take longer
  // than the measurement.
  static Matrix make_weights(DType dtype, int64_t bytes) {
    Matrix pattern(dtype, 4, kCols);
    std::mt19937 random(1);
    std::normal_distribution<double> normal(0.0, 0.05);
    for (int64_t i = 0; i < pattern.count(); ++i) pattern.set(i, normal(random));
    Matrix w(dtype, bytes / size_of(dtype) / kCols, kCols);
    for (size_t at = 0; at < w.bytes.size(); at += pattern.bytes.size()) {
      std::memcpy(&w.bytes[at], pattern.bytes.data(), pattern.bytes.size());
    }
    return w;
  }

  Machine& machine_;
  Matrix w_;
  float amax_ = 0.0f;
  float fp8_scale_ = 0.0f;
  float nvfp4_scale_ = 0.0f;
  std::shared_ptr<void> device_w_, device_y_, codes_, out_, block_scales_, row_scales_, row_amaxes_;
};

// testing::all_operations' memory on a machine.
class MachineMemory {
 public:
  struct Buffer {
    std::shared_ptr<void> memory;
    size_t size;
    void* data() const { return memory.get(); }
  };

  explicit MachineMemory(Machine& machine) : machine_(machine) {}
  std::shared_ptr<Buffer> make(size_t size) {
    return std::make_shared<Buffer>(Buffer{machine_.make(size), size});
  }
  std::shared_ptr<Buffer> upload(const Bytes& bytes) {
    auto buffer = make(bytes.size());
    machine_.upload(bytes, buffer->data());
    return buffer;
  }
  Bytes download(const std::shared_ptr<Buffer>& buffer) {
    machine_.wait();
    return machine_.download(buffer->data(), buffer->size);
  }

 private:
  Machine& machine_;
};

// Wrong bytes in every way of calling the operation that `name` starts with.
int64_t wrong_bytes(const Results& found, const Results& expected, const std::string& name) {
  int64_t wrong = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!found[i].first.starts_with(name)) continue;
    const auto& [ours, theirs] = std::tie(found[i].second, expected[i].second);
    for (size_t k = 0; k < ours.size(); ++k) wrong += ours[k] != theirs[k];
  }
  return wrong;
}

void measure(benchmark::State& state, Machine& machine, const Operation& operation,
             const std::shared_ptr<double>& copy_speed, int64_t wrong) {
  operation.run();  // pages and caches
  double best = 1e30;
  for (auto _ : state) {
    const double seconds = machine.seconds(operation.run);
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  // The fastest time: others share the machine.
  const double speed = static_cast<double>(operation.bytes) / best * 1e-9;
  if (operation.name == "copy") *copy_speed = speed;
  state.counters["GB/s"] = speed;
  state.counters["%copy"] = 100.0 * speed / *copy_speed;
  state.counters["wrong"] = static_cast<double>(wrong);
}

void add_benchmarks(Machine& machine, DType dtype) {
  const Matrix sample = testing::random_matrix(dtype, 64, 1024, 2, true);
  MachineMemory memory(machine);
  const Results found = testing::all_operations(memory, machine.context(), sample);
  const Results expected = testing::all_references(sample);
  const auto suite = std::make_shared<Suite>(machine, dtype);
  const auto copy_speed = std::make_shared<double>(0.0);  // copy is the first to run
  const auto integers = std::make_shared<IntegerSuite>(machine, suite->weights(), suite->buffers());
  const auto blocks = std::make_shared<BlockSuite>(machine, suite->weights(), suite->buffers());
  std::vector<Operation> operations = suite->operations();
  std::ranges::move(integers->operations(), std::back_inserter(operations));
  std::ranges::move(blocks->operations(), std::back_inserter(operations));
  for (const Operation& operation : operations) {
    const int64_t wrong = wrong_bytes(found, expected, operation.name);
    const std::string name = operation.name + "/" + name_of(dtype) + "/" + machine.name();
    benchmark::RegisterBenchmark(
        name.c_str(),
        [&machine, operation, copy_speed, wrong, suite, integers, blocks](benchmark::State& state) {
          measure(state, machine, operation, copy_speed, wrong);
        })
        ->UseManualTime()
        ->Iterations(10)
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace halftone::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const auto machines = halftone::bench::machines();
  for (const auto& machine : machines) {
    for (const auto dtype :
         {halftone::DType::kBF16, halftone::DType::kF16, halftone::DType::kF32}) {
      const std::string name = std::string(halftone::name_of(dtype)) + "/" + machine->name();
      const auto wanted = [&](const char* argument) { return name == argument; };
      if (argc == 1 || std::any_of(argv + 1, argv + argc, wanted)) {
        halftone::bench::add_benchmarks(*machine, dtype);
      }
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
