#include "app/run_setup.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "dist/agreement.h"
#include "formats/cuda_library.h"

namespace halftone {
namespace {

// Taking experts in groups reads them twice: not worth it below this.
constexpr int64_t kSmallestStage = int64_t{256} << 20;

int thread_count(const Options& options, const World& world) {
  const int64_t wanted = options.get_integer("threads");
  if (wanted > 0) return static_cast<int>(wanted);
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return std::max(1, cores / world.local_size());
}

at::Device pick_device(const Options& options, const World& world) {
  const std::string& wanted = options.get("device");
  if (wanted == "cpu") return at::kCPU;
  const std::string problem = load_cuda_library();
  if (problem.empty())
    return {at::kCUDA, static_cast<c10::DeviceIndex>(use_gpu(world.local_rank()))};
  if (wanted == "cuda") throw UsageError("--device cuda: " + problem);
  return at::kCPU;
}

}  // namespace

void add_run_options(Options& options) {
  options.group("Run");
  options.choice("device", {"auto", "cpu", "cuda"}, "auto",
                 "where to compute; auto: a GPU if there is one");
  options.choice("dtype", {"auto", "bfloat16", "float32"}, "auto",
                 "type of activations; auto: the checkpoint's");
  options.choice("numerics", {"cpu", "cuda"}, "cpu",
                 "whose arithmetic of Model Optimizer scales follow to the last bit");
  options.choice("residency", {"auto", "stream"}, "auto",
                 "where weights are between passes; stream: two stages at a time");
  options.integer_or_auto("threads", 1, 1024, "threads of each rank; auto: its share of the cores");
  options.integer_or_auto("max-stage-bytes", 1, INT64_MAX,
                          "take a layer with more weights than this a few experts at a time");
  options.integer("seed", 0, 0, INT64_MAX,
                  "seed of everything random (max calibration draws nothing)");
  options.flag("json", "print one JSON object to standard output and nothing else");
}

void add_family_option(Options& options) {
  options.text("family", "NAME", "",
               "take the model for one of this family whatever its architecture is called");
}

int64_t stage_limit(const Options& options, const World& world) {
  const int64_t wanted = options.get_integer("max-stage-bytes");
  if (wanted > 0) return wanted;
  // Two stages are read at a time, and low-bit ones grow by two to four when they are decoded.
  constexpr int64_t kShare = 8;
  return std::max(kSmallestStage, available_host_bytes() / (kShare * world.local_size()));
}

RunSetup::RunSetup(const Options& options, const World& world)
    : world_(world),
      control_(make_mpi_communicator(world)),
      pool_(std::make_unique<ThreadPool>(thread_count(options, world),
                                         [] { at::set_num_threads(1); })) {
  require_same(*control_, "options", options.resolved().dump());
  // Behind an exchange: the ranks' times begin together.
  constexpr size_t kMostSpans = 200'000;
  trace_ = std::make_unique<Trace>(options.resolved().value("trace", "").empty() ? 0 : kMostSpans);
  const at::Device device = pick_device(options, world);
  if (device.is_cuda() && world.size() > 1) nccl_ = make_nccl_communicator(world);
  cluster_ = std::make_unique<Cluster>(
      Cluster{world, *control_, nccl_ ? *nccl_ : *control_, *pool_, device, trace_.get()});
}

DType compute_dtype(const Options& options, DType of_checkpoint) {
  const std::string& wanted = options.get("dtype");
  if (wanted == "bfloat16") return DType::kBF16;
  if (wanted == "float32") return DType::kF32;
  return of_checkpoint;
}

Numerics numerics(const Options& options) {
  return options.get("numerics") == "cuda" ? Numerics::kCuda : Numerics::kCpu;
}

void print_json(const Json& json) {
  std::printf("%s\n", json.dump(2).c_str());
}

}  // namespace halftone
