#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <thread>

#include "app/commands.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "app/synthetic_config.h"
#include "core/error.h"
#include "core/log.h"
#include "core/progress.h"
#include "dist/mpi_communicator.h"
#include "export/staged_output.h"
#include "export/synthetic.h"

namespace halftone {
namespace {

constexpr int64_t kMostLayers = 4096;

Options options() {
  Options options("halftone synthesize --out DIR [--family NAME | --like CONFIG.json] [options]",
                  "Writes a checkpoint of random weights, for benchmarks and trials.");
  options.group("Model");
  add_shape_options(options);
  options.integer("seed", 0, 0, INT64_MAX, "other weights for each seed");
  options.group("Output");
  options.text("out", "DIR", "", "where the checkpoint goes");
  options.integer("max-shard-size", 5'000'000'000, 1, INT64_MAX, "bytes per weight file");
  options.flag("overwrite", "replace an existing output");
  options.group("Run");
  options.integer_or_auto("threads", 1, 1024, "auto: one for each core");
  options.flag("json", "print one JSON object to standard output and nothing else");
  return options;
}

// "20GB", "1.5GiB", "4096".
int64_t parse_size(const std::string& option, const std::string& text) {
  static const std::vector<std::pair<std::string, double>> units{
      {"", 1.0},    {"B", 1.0},      {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  double number = 0.0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(rest, text.data() + text.size());
  const auto found =
      std::find_if(units.begin(), units.end(), [&](const auto& one) { return one.first == unit; });
  const double bytes = found == units.end() ? 0.0 : number * found->second;
  if (error != std::errc() || !(bytes >= 1.0 && bytes < 0x1p62)) {
    throw UsageError(
        concat("--", option, ": expected a size such as 20GB or 512MiB, found '", text, "'"));
  }
  return static_cast<int64_t>(bytes);
}

SyntheticCheckpoint plan(const Options& options, const SyntheticConfig& config, int64_t layers) {
  SyntheticModel made = config.make(layers);
  const std::string& name = options.get("dtype");
  const DType dtype = name == "float32"   ? DType::kF32
                      : name == "float16" ? DType::kF16
                                          : DType::kBF16;
  return plan_synthetic(*made.model, std::move(made.config), dtype,
                        options.get_integer("max-shard-size"));
}

// The fewest layers that take so many bytes.
SyntheticCheckpoint plan_of_size(const Options& options, const SyntheticConfig& config) {
  const int64_t wanted = parse_size("bytes", options.get("bytes"));
  const auto bytes = [&](int64_t layers) {
    return plan(options, config, layers).layout.total_bytes;
  };
  if (const int64_t smallest = bytes(1); smallest > wanted) {
    throw UsageError(concat("--bytes: one layer makes ", smallest, " bytes already, more than the ",
                            wanted, " asked for: choose a smaller --hidden or --vocab"));
  }
  int64_t above = 1;
  while (bytes(above) < wanted) {
    if (above == kMostLayers) {
      throw UsageError(concat("--bytes: ", kMostLayers, " layers do not make ", wanted,
                              " bytes: choose a larger --hidden"));
    }
    above *= 2;
  }
  int64_t below = above / 2;
  while (above - below > 1) {
    const int64_t middle = (above + below) / 2;
    (bytes(middle) < wanted ? below : above) = middle;
  }
  return plan(options, config, above);
}

void check_space(const SyntheticCheckpoint& checkpoint, const fs::path& folder) {
  const int64_t free = free_bytes(folder);
  if (free >= checkpoint.layout.total_bytes) return;
  throw ResourceError(concat("'", folder.string(), "' has ", free, " bytes free, but the ",
                             "checkpoint needs ", checkpoint.layout.total_bytes,
                             ": free some space or choose another --out"));
}

void run(const Options& options, const World* /*world*/) {
  const fs::path out = without_trailing_slash(options.required("out"));
  if (options.given("bytes") && options.get_integer("layers") != 0) {
    throw UsageError("--bytes and --layers exclude each other");
  }
  const SyntheticConfig config(options);
  const SyntheticCheckpoint checkpoint =
      options.given("bytes") ? plan_of_size(options, config) : plan(options, config, 0);
  if (fs::exists(out) && !options.get_flag("overwrite")) {
    throw UsageError(concat("'", out.string(), "' exists already: choose another --out, or pass ",
                            "--overwrite"));
  }
  const auto alone = make_lone_communicator();
  make_parent(out, /*speaks=*/true, *alone);
  check_space(checkpoint, out.parent_path());

  const auto start = std::chrono::steady_clock::now();
  const int64_t wanted = options.get_integer("threads");
  ThreadPool pool(wanted > 0 ? static_cast<int>(wanted)
                             : static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  const StagedOutput staged(out);
  staged.begin(*alone, false);
  write_synthetic(checkpoint, static_cast<uint64_t>(options.get_integer("seed")), staged.partial(),
                  pool);
  staged.publish(*alone, options.get_flag("overwrite"));

  const double seconds = seconds_since(start);
  const auto& layout = checkpoint.layout;
  if (options.get_flag("json")) {
    print_json({{"dir", out.string()},
                {"bytes", layout.total_bytes},
                {"tensors", layout.file_of.size()},
                {"files", layout.files.size()},
                {"seconds", seconds}});
    return;
  }
  std::printf("%s: %zu tensors, %lld bytes in %zu files, %.1f s\n", out.c_str(),
              layout.file_of.size(), static_cast<long long>(layout.total_bytes),
              layout.files.size(), seconds);
}

}  // namespace

Command synthesize_command() {
  return {"synthesize", "a checkpoint of random weights, for benchmarks", false, &options, &run};
}

}  // namespace halftone
