#include "engine/plan.h"

#include <algorithm>
#include <cstdio>
#include <thread>

#include "app/budgets.h"
#include "app/commands.h"
#include "app/data.h"
#include "app/plan_rates.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "app/trtllm.h"
#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "engine/device_memory.h"
#include "engine/summary.h"
#include "formats/cuda_library.h"

namespace halftone {
namespace {

// What the driver takes of the host once a GPU is used: where there is none here,
// this stands for what cannot be measured.
constexpr int64_t kGpuProcess = 600'000'000;

Options options() {
  Options options("halftone plan --model DIR --format NAME[,NAME...] [options]",
                  "Says from the headers alone what quantize would need on each rank, how long it "
                  "would take,\nand, where it cannot work, the smallest change that would (exit "
                  "code 4).");
  options.group("What");
  add_target_options(options);
  options.group("Where");
  options.integer("ranks", 0, 0, 16384, "plan for N ranks; 0: as many as run this");
  options.integer("ranks-per-host", 0, 0, 1024,
                  "of which so many share a host; 0: all, with GPUs up to 8");
  options.bytes("gpu-memory", "of each GPU, where this machine has none");
  add_rate_options(options);
  add_calibration_options(options);
  add_output_options(options);
  options.text("workspace", "DIR", "", "where the calibration store is kept [OUT.workspace]");
  add_run_options(options);
  return options;
}

// Where the run would take place.
struct Place {
  int ranks = 1;
  int ranks_per_host = 1;
  int threads = 1;
  bool gpu = false;
  MemoryBudget budget;

  int hosts() const { return (ranks + ranks_per_host - 1) / ranks_per_host; }
};

Place place_of(const Options& options, const World& world) {
  Place place;
  const bool here = options.get("device") != "cpu" && load_cuda_library().empty();
  place.gpu = options.get("device") == "cuda" || here;
  const auto wanted = static_cast<int>(options.get_integer("ranks"));
  place.ranks = wanted > 0 ? wanted : world.size();
  place.ranks_per_host = static_cast<int>(options.get_integer("ranks-per-host"));
  if (place.ranks_per_host == 0) {
    place.ranks_per_host = wanted > 0 ? place.ranks : world.local_size();
    if (place.gpu) place.ranks_per_host = std::min(place.ranks_per_host, 8);
  }
  const auto threads = static_cast<int>(options.get_integer("threads"));
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  place.threads = threads > 0 ? threads : std::max(1, cores / place.ranks_per_host);

  MemoryBudget& budget = place.budget;
  const int64_t device = options.get_bytes("memory-budget");
  const int64_t host = options.get_bytes("host-budget");
  budget.host_bytes =
      host > 0 ? host : available_host_bytes() / place.ranks_per_host + host_bytes_now();
  if (!place.gpu) {
    if (device > 0) budget.host_bytes = std::min(budget.host_bytes, device);
    return place;
  }
  budget.device_bytes = device > 0 ? device : options.get_bytes("gpu-memory");
  if (budget.device_bytes > 0) return place;
  if (!here) {
    throw UsageError(
        "--device cuda: this machine has no GPU to ask, so say what each of them has "
        "with --gpu-memory");
  }
  budget.device_bytes = free_device_bytes(at::Device(at::kCUDA, 0));
  return place;
}

// The calibration data, no sample being shorter than it may be.
BatchShape planned_batches(const Options& options, const Model& model) {
  BatchShape shape;
  const int64_t samples = options.get_integer("calib-samples");
  shape.length = std::min(options.get_integer("calib-length"), model.max_positions());
  shape.rows = std::min(batch_size(options, shape.length), samples);
  shape.batches = (samples + shape.rows - 1) / shape.rows;
  shape.encoder_length = model.has_encoder() ? shape.length : 0;
  shape.padded = true;
  return shape;
}

// Of tokenizer and data, which a plan does not read.
int64_t data_bytes(const BatchShape& batches, const Checkpoint& checkpoint) {
  // A vocabulary in memory beside its file's text, as measured.
  constexpr int64_t kTokenizer = 8;
  std::error_code error;
  int64_t tokenizer = 0;
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (!checkpoint.files()) break;
    const auto size = fs::file_size(*checkpoint.files() / name, error);
    if (!error) tokenizer = std::max(tokenizer, static_cast<int64_t>(size));
  }
  const int64_t positions =
      batches.batches * batches.rows * (batches.length + batches.encoder_length);
  // Ids of the samples, of the batches and of the first stage, and their masks.
  return kTokenizer * tokenizer + positions * (4 + 8 + 8 + 1);
}

// One file system that the run writes to.
struct Disk {
  fs::path folder;
  int64_t needed = 0;
  int64_t free = 0;
};

fs::path existing_parent(fs::path path) {
  while (!fs::exists(path) && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  return path;
}

void check_disk(const Disk& disk, const char* option) {
  if (disk.needed <= disk.free) return;
  throw ResourceError(concat("'", disk.folder.string(), "' has ", bytes_text(disk.free),
                             " free, but the run needs ", bytes_text(disk.needed),
                             " there: free some space or choose another ", option));
}

struct RunPlan {
  Place place;
  MemoryInputs inputs;
  MemoryPlan memory;
  Rates rates;
  std::vector<PlannedPhase> phases;
  int64_t output_bytes = 0;
  int64_t layout_bytes = 0;  // of the files that the output is dealt to, beside it
  int64_t workspace_bytes = 0;
  std::string residency_reason;
  std::string problem;  // empty: it works

  double seconds() const {
    double sum = 0.0;
    for (const PlannedPhase& phase : phases) sum += phase.seconds;
    return sum;
  }
};

int64_t output_bytes(const std::vector<Target>& targets) {
  int64_t bytes = 0;
  for (const Target& target : targets) {
    for (const auto& file : target.hf.layout.files) bytes += file.layout.file_bytes;
  }
  return bytes;
}

PlannedPhase reshard_phase(const RunPlan& plan) {
  const int hosts = plan.place.hosts();
  const double seconds = static_cast<double>(plan.output_bytes) / (plan.rates.read * hosts) +
                         static_cast<double>(plan.layout_bytes) / (plan.rates.write * hosts);
  return {"reshard", seconds, plan.output_bytes + plan.layout_bytes, 0};
}

void choose_residency(const Options& options, const SourceLayout& source,
                      const std::vector<Target>& targets, RunPlan& plan) {
  const std::optional<Residency> wanted = wanted_residency(options);
  plan.inputs.residency = wanted.value_or(Residency::kStream);
  plan.inputs.held_bytes = held_bytes(plan.inputs.residency, source, targets);
  plan.residency_reason =
      wanted ? "asked for" : "one pass reads every weight once: nothing need be held for another";
}

void check_plan(const Options& options, RunPlan& plan) {
  try {
    require_fits(plan.inputs, plan.memory, plan.place.budget);
    if (!options.given("out")) return;
    const fs::path out = without_trailing_slash(options.get("out"));
    const fs::path workspace = options.given("workspace") ? fs::absolute(options.get("workspace"))
                                                          : fs::path(out.string() + ".workspace");
    Disk of_out{existing_parent(out), plan.output_bytes + plan.layout_bytes, 0};
    const Disk of_workspace{existing_parent(workspace), plan.workspace_bytes,
                            free_bytes(existing_parent(workspace))};
    of_out.free = free_bytes(of_out.folder);
    check_disk(of_workspace, "--workspace");
    if (of_out.folder == of_workspace.folder) of_out.needed += of_workspace.needed;
    check_disk(of_out, "--out");
  } catch (const ResourceError& error) {
    plan.problem = error.what();
  }
}

Json plan_json(const RunPlan& plan) {
  Json phases = Json::object();
  int64_t network = 0;
  for (const PlannedPhase& phase : plan.phases) {
    phases[phase.name] = {{"seconds", phase.seconds},
                          {"disk_bytes", phase.disk_bytes},
                          {"network_bytes", phase.network_bytes}};
    network += phase.network_bytes;
  }
  const MemoryInputs& inputs = plan.inputs;
  const MemoryBudget& budget = plan.place.budget;
  const auto limited = [](int64_t bytes) { return bytes == INT64_MAX ? Json() : Json(bytes); };
  return {{"fits", plan.problem.empty()},
          {"problem", plan.problem.empty() ? Json() : Json(plan.problem)},
          {"ranks", plan.place.ranks},
          {"ranks_per_host", plan.place.ranks_per_host},
          {"hosts", plan.place.hosts()},
          {"threads", plan.place.threads},
          {"device", plan.place.gpu ? "cuda" : "cpu"},
          {"residency", name_of(inputs.residency)},
          {"residency_reason", plan.residency_reason},
          {"batch_size", inputs.batches.rows},
          {"batches", inputs.batches.batches},
          {"stage_limit", inputs.stage_limit},
          {"memory", to_json(plan.memory)},
          {"budget",
           {{"host_bytes", limited(budget.host_bytes)},
            {"device_bytes", limited(budget.device_bytes)}}},
          {"disk",
           {{"output_bytes", plan.output_bytes},
            {"layout_bytes", plan.layout_bytes},
            {"workspace_bytes", plan.workspace_bytes}}},
          {"network_bytes", network},
          {"phases", phases},
          {"seconds", plan.seconds()},
          {"rates",
           {{"read", plan.rates.read},
            {"write", plan.rates.write},
            {"network", plan.rates.network},
            {"memory", plan.rates.memory},
            {"flops", plan.rates.flops}}}};
}

void print_row(const char* name, const std::string& first, const std::string& second) {
  std::printf("  %-30s %12s %12s\n", name, first.c_str(), second.c_str());
}

void print_plan(const RunPlan& plan) {
  const Place& place = plan.place;
  const MemoryInputs& inputs = plan.inputs;
  std::printf("%d ranks on %d hosts, %s, residency %s (%s)\n", place.ranks, place.hosts(),
              place.gpu ? "cuda" : "cpu", name_of(inputs.residency), plan.residency_reason.c_str());
  std::printf(
      "%lld batches of %lld samples of %lld tokens; layers of more than %s come in groups "
      "of experts\n\n",
      static_cast<long long>(inputs.batches.batches), static_cast<long long>(inputs.batches.rows),
      static_cast<long long>(inputs.batches.length), bytes_text(inputs.stage_limit).c_str());
  const auto cell = [](int64_t bytes) { return bytes == 0 ? std::string("-") : bytes_text(bytes); };
  print_row("memory of a rank", "host", "device");
  for (const MemoryPart& part : plan.memory.parts) {
    print_row(part.name.c_str(), cell(part.host_bytes), cell(part.device_bytes));
  }
  print_row("peak", cell(plan.memory.host_bytes), cell(plan.memory.device_bytes));
  print_row("budget", cell(place.budget.host_bytes),
            place.gpu ? cell(place.budget.device_bytes) : "-");
  std::printf("\n  %-30s %12s %12s %12s\n", "phase", "seconds", "disk", "network");
  for (const PlannedPhase& phase : plan.phases) {
    std::printf("  %-30s %12.1f %12s %12s\n", phase.name.c_str(), phase.seconds,
                cell(phase.disk_bytes).c_str(), cell(phase.network_bytes).c_str());
  }
  std::printf("  %-30s %12.1f\n\n", "all, nothing overlapping", plan.seconds());
  std::printf("disk: %s of output, up to %s of workspace\n", bytes_text(plan.output_bytes).c_str(),
              bytes_text(plan.workspace_bytes).c_str());
}

void run(const Options& options, const World* world) {
  const std::vector<Recipe> recipes = read_recipes(options);
  const Checkpoint checkpoint = open_source(options);
  const std::unique_ptr<Communicator> ranks = make_mpi_communicator(*world);
  RunPlan plan;
  plan.place = place_of(options, *world);
  const std::unique_ptr<Model> model = open_model(options, checkpoint);
  const SourceLayout source(checkpoint, *model);
  const fs::path out =
      options.given("out") ? without_trailing_slash(options.get("out")) : fs::path("/nowhere");
  const std::vector<Target> targets = make_targets(options, source, *model, recipes, out);
  check_engines(options, *model, targets, world->rank() == 0);
  plan.output_bytes = output_bytes(targets);
  plan.layout_bytes = check_layout(options, checkpoint, *model, targets);

  QuantizeOptions quantize;
  quantize.compute_dtype = compute_dtype(options, model_dtype(checkpoint));
  const int64_t limit = options.get_integer("max-stage-bytes");
  quantize.stage_limit = limit > 0 ? limit : stage_limit_of(plan.place.budget);
  const BatchShape batches =
      needs_forward(*model, targets) ? planned_batches(options, *model) : BatchShape{};
  plan.inputs = memory_inputs(source, *model, targets, batches, quantize);
  plan.inputs.ranks = plan.place.ranks;
  plan.inputs.threads = plan.place.threads;
  plan.inputs.gpu = plan.place.gpu;
  plan.inputs.base_bytes = host_bytes_now() + data_bytes(batches, checkpoint);
  if (plan.place.gpu && !load_cuda_library().empty()) plan.inputs.base_bytes += kGpuProcess;
  choose_residency(options, source, targets, plan);
  plan.memory = predict_memory(plan.inputs);
  // The states behind two stages, and statistics.
  plan.workspace_bytes = 2 * hidden_state_bytes(plan.inputs) + statistics_bytes(plan.inputs);

  const fs::path folder =
      existing_parent(options.given("workspace") ? fs::absolute(options.get("workspace"))
                                                 : fs::absolute(out).parent_path());
  plan.rates = rates_of(options, checkpoint, options.given("out") ? folder : fs::current_path(),
                        quantize.compute_dtype, plan.place.gpu, plan.place.threads, *ranks);
  plan.phases = plan_phases(plan.inputs, plan.rates, plan.place.hosts(), plan.output_bytes);
  if (plan.layout_bytes > 0) plan.phases.push_back(reshard_phase(plan));
  check_plan(options, plan);
  if (world->rank() == 0) {
    if (options.get_flag("json")) {
      print_json(plan_json(plan));
    } else {
      print_plan(plan);
    }
    std::fflush(stdout);
  }
  if (!plan.problem.empty()) throw ResourceError(plan.problem);
}

}  // namespace

Command plan_command() {
  return {"plan", "what a run would need and how long it would take", true, &options, &run};
}

}  // namespace halftone
