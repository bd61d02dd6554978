#include "app/run_setup.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "app/cuda_library.h"
#include "core/embedded.h"
#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "dist/agreement.h"

namespace halftone {
namespace {

// Batches of about this many positions keep activations small and matrix products large.
constexpr int64_t kAutoPositions = 16384;
constexpr int64_t kAutoRows = 8;
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

void add_calibration_options(Options& options) {
  options.group("Calibration data");
  options.paths("calib", "JSONL, text, or JSONL with input_ids; default: an embedded text");
  options.integer("calib-samples", 512, 1, 100'000'000, "use the first N samples");
  options.integer("calib-length", 512, 1, 10'000'000, "cut samples to N tokens");
  options.text("text-field", "NAME", "text", "the field of a JSONL line that holds the text");
  options.integer_or_auto("batch-size", 1, 65536, "samples per batch");
  options.flag("count-padding", "count padded positions in statistics, as the reference does");
  options.number("moe-calib-experts-ratio", 0.0, 0.0, 1.0,
                 "let every token feed this share of a layer's experts, 1: all; 0: its own");
  options.integer("expert-min-tokens", 1, 0, INT64_MAX,
                  "an expert with fewer tokens falls back to its peers");
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
  const at::Device device = pick_device(options, world);
  if (device.is_cuda() && world.size() > 1) nccl_ = make_nccl_communicator(world);
  cluster_ = std::make_unique<Cluster>(
      Cluster{world, *control_, nccl_ ? *nccl_ : *control_, *pool_, device});
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

DataRequest data_request(const Options& options, const std::string& name, const char* embedded) {
  DataRequest request;
  request.files = options.get_paths(name);
  request.embedded = embedded;
  request.option = "--" + name;
  request.options.text_field = options.get("text-field");
  request.options.samples = options.get_integer(name + "-samples");
  request.options.max_length = options.get_integer(name + "-length");
  return request;
}

LoadedData load_data(const DataRequest& request, const fs::path& model, int64_t vocabulary,
                     int64_t max_positions) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (fs::exists(model / "tokenizer.json")) tokenizer = load_tokenizer(model);
  DatasetOptions options = request.options;
  options.vocabulary = vocabulary;
  LoadedData data;
  if (request.files.empty()) {
    data.dataset = parse_jsonl_dataset(embedded_file(request.embedded), "the embedded text",
                                       tokenizer.get(), options);
  } else {
    data.dataset =
        load_dataset({request.files.begin(), request.files.end()}, tokenizer.get(), options);
  }
  if (tokenizer != nullptr) data.pad_id = tokenizer->pad_id();
  if (data.pad_id >= vocabulary) data.pad_id = 0;
  for (const Sample& sample : data.dataset.samples) {
    const auto length = static_cast<int64_t>(sample.ids.size());
    if (length > max_positions) {
      throw InputError(concat(sample.origin, ": ", length, " tokens, but the model has ",
                              max_positions, " positions: choose a smaller ", request.option,
                              "-length"));
    }
  }
  if (data.dataset.dropped > 0) log_warn(data.dataset.dropped, " empty samples were left out");
  return data;
}

int64_t batch_size(const Options& options, const Dataset& dataset) {
  const int64_t wanted = options.get_integer("batch-size");
  if (wanted > 0) return wanted;
  int64_t longest = 1;
  for (const Sample& sample : dataset.samples) {
    longest = std::max(longest, static_cast<int64_t>(sample.ids.size()));
  }
  return std::clamp<int64_t>(kAutoPositions / longest, 1, kAutoRows);
}

void print_json(const Json& json) {
  std::printf("%s\n", json.dump(2).c_str());
}

}  // namespace halftone
