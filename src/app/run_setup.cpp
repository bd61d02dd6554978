#include "app/run_setup.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "app/budgets.h"
#include "core/error.h"
#include "core/log.h"
#include "dist/agreement.h"
#include "dist/checked_communicator.h"
#include "dist/preflight.h"
#include "formats/cuda_library.h"
#include "io/statistics_store.h"

namespace halftone {
namespace {

int thread_count(const Options& options, const World& world) {
  const int64_t wanted = options.get_integer("threads");
  if (wanted > 0) return static_cast<int>(wanted);
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return std::max(1, cores / world.local_size());
}

// "2.9.1" of the library that this process loaded, or all that it says of itself.
std::string torch_version() {
  const std::string text = at::show_config();
  const std::string key = "TORCH_VERSION=";
  const size_t begin = text.find(key);
  if (begin == std::string::npos) return text;
  return text.substr(begin + key.size(), text.find_first_of(", \n", begin) - begin - key.size());
}

// Before anything else: with other programs not even the options need have the same names.
void check_hosts(const World& world, Communicator& ranks) {
  if (world.size() == 1) return;
  Facts facts = program_facts();
  facts.emplace_back("LibTorch", torch_version());
  facts.emplace_back("HDF5", hdf5_version());
  facts.emplace_back("NCCL and driver", nccl_version());
  require_same_facts(ranks, world, facts);
  warn_of_clocks(ranks, world);
}

// --check-collectives
std::unique_ptr<Communicator> checked_if_asked(std::unique_ptr<Communicator> ranks,
                                               const Options& options, const World& world) {
  if (!options.get_flag("check-collectives") || world.size() == 1) return ranks;
  return make_checked_communicator(std::move(ranks), make_mpi_communicator(world));
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
  options.choice(
      "residency", {"auto", "stream", "resident", "compressed"}, "auto",
      "what the ranks hold of the weights between passes: nothing, all, or all quantized");
  options.flag("low-memory", "the same as --residency compressed");
  options.integer_or_auto("threads", 1, 1024, "threads of each rank; auto: its share of the cores");
  options.integer_or_auto("max-stage-bytes", 1, INT64_MAX,
                          "take a layer with more weights than this a few experts at a time");
  add_budget_options(options);
  options.integer("seed", 0, 0, INT64_MAX,
                  "seed of everything random (max calibration draws nothing)");
  options.integer("watchdog-seconds", 60, 0, 86'400,
                  "end the run when a rank was silent for so long; 0: never");
  options.flag("check-collectives",
               "compare before each collective that all ranks call the same one");
  options.flag("json", "print one JSON object to standard output and nothing else");
}

void add_family_option(Options& options) {
  options.text("family", "NAME", "",
               "take the model for one of this family whatever its architecture is called");
}

int64_t stage_limit(const Options& options, const Cluster& cluster) {
  const int64_t wanted = options.get_integer("max-stage-bytes");
  return wanted > 0 ? wanted : stage_limit_of(memory_budget(options, cluster));
}

std::optional<Residency> wanted_residency(const Options& options) {
  const std::string& name = options.get("residency");
  const bool low_memory = options.get_flag("low-memory");
  if (low_memory && name != "auto" && name != "compressed") {
    throw UsageError(
        concat("--low-memory is --residency compressed: leave out --residency ", name));
  }
  if (low_memory || name == "compressed") return Residency::kCompressed;
  if (name == "stream") return Residency::kStream;
  if (name == "resident") return Residency::kResident;
  return std::nullopt;
}

bool calibrates_on_compressed(const Options& options) {
  if (options.get("calibrate-on") != "compressed") return false;
  if (wanted_residency(options) == Residency::kCompressed) return true;
  throw UsageError("--calibrate-on compressed needs --residency compressed (--low-memory)");
}

Residency settle_residency(const Options& options, const std::vector<LoadStep>& steps, int passes,
                           const RunSetup& setup) {
  const std::optional<Residency> wanted = wanted_residency(options);
  if (wanted) return *wanted;
  const Cluster& cluster = setup.cluster();
  const MemoryBudget budget = memory_budget(options, cluster);
  const bool on_gpu = cluster.device.is_cuda();
  const ResidencyChoice choice = choose_residency(steps, passes, cluster.world.size(),
                                                  on_gpu ? budget.device_bytes : budget.host_bytes);
  if (setup.speaks()) log_info("residency ", name_of(choice.residency), ": ", choice.why);
  return choice.residency;
}

RunSetup::RunSetup(const Options& options, const World& world)
    : world_(world),
      control_(make_mpi_communicator(world)),
      pool_(std::make_unique<ThreadPool>(thread_count(options, world),
                                         [] { at::set_num_threads(1); })) {
  check_hosts(world, *control_);
  require_same(*control_, "options", options.resolved().dump());
  control_ = checked_if_asked(std::move(control_), options, world);
  if (const int64_t seconds = options.get_integer("watchdog-seconds"); seconds > 0) {
    world.start_watchdog(std::chrono::seconds(seconds));
  }
  // Behind an exchange: the ranks' times begin together.
  constexpr size_t kMostSpans = 200'000;
  trace_ = std::make_unique<Trace>(options.resolved().value("trace", "").empty() ? 0 : kMostSpans);
  const at::Device device = pick_device(options, world);
  if (device.is_cuda() && world.size() > 1) {
    nccl_ = checked_if_asked(make_nccl_communicator(world), options, world);
  }
  make_loading(options, device);
  cluster_ = std::make_unique<Cluster>(Cluster{world, *control_, nccl_ ? *nccl_ : *control_, *pool_,
                                               device, loading_.get(), trace_.get()});
}

// Over TCP, Open MPI 4.1 can lose other threads' messages for seconds while one of them gathers:
// ranks without GPUs do so beside the computation within one host only.
void RunSetup::make_loading(const Options& options, at::Device device) {
  if (world_.size() == 1 || !world_.threads_talk()) return;
  if (device.is_cpu() && world_.nodes() > 1) return;
  meeting_ = std::make_unique<Rendezvous>(world_);
  loading_ranks_ =
      checked_if_asked(device.is_cuda() ? make_nccl_communicator(world_, GpuOrder::kBeside)
                                        : make_mpi_communicator(world_),
                       options, world_);
  loading_ = std::make_unique<Loading>(Loading{*meeting_, *loading_ranks_});
}

void add_source_option(Options& options) {
  options.text("source-config", "DIR", "",
               "take config.json, tokenizer and all but the weights from this folder");
}

Checkpoint open_source(const Options& options, const std::string& name) {
  return Checkpoint(options.required(name), options.get("source-config"));
}

void require_same_model(const Checkpoint& checkpoint, const Cluster& cluster) {
  require_same(cluster.control, concat("model in '", checkpoint.directory().string(), "'"),
               checkpoint.fingerprint());
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
