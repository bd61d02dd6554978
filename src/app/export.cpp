#include <charconv>
#include <optional>

#include "app/budgets.h"
#include "app/commands.h"
#include "app/convert.h"
#include "app/library_layout.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "app/trtllm.h"
#include "core/error.h"
#include "core/log.h"
#include "dist/preflight.h"
#include "engine/quantize.h"
#include "io/statistics_store.h"
#include "model/family.h"

namespace halftone {
namespace {

Options options() {
  Options options(
      "halftone export --store FILE.h5 --model DIR --format NAME[,NAME...] --out DIR\n"
      "       halftone export --model EXPORTED_DIR --target NAME [--tp N --pp N] --out DIR",
      "Writes quantized checkpoints from a calibration store, without a forward pass, or one that\n"
      "halftone wrote in another layout, without quantizing again.");
  options.group("What");
  options.text("store", "FILE.h5", "", "the calibration store of an earlier halftone quantize");
  add_target_options(options);
  add_output_options(options);
  add_run_options(options);
  return options;
}

// The rules of a target must be those with which its searches were made.
void check_recipe(const Recipe& recipe, const Json& stored, const std::string& store) {
  if (recipe.algorithms.empty()) return;
  for (const Json& other : stored) {
    if (other.value("name", "") != recipe.name) continue;
    const Json mine = to_json(recipe);
    if (other.at("algorithm") == mine.at("algorithm")) return;
    throw UsageError(concat("'", store, "' holds searches of another recipe called '", recipe.name,
                            "': give the recipe of that run"));
  }
}

DType stored_dtype(const StatisticsStore& store, const std::string& path) {
  const std::string name = store.text("compute_dtype");
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw InputError(concat("'", path, "': unknown compute_dtype '", name, "'"));
}

int64_t stored_floor(const StatisticsStore& store, const std::string& path) {
  const std::string text = store.text("expert_min_tokens");
  int64_t floor = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), floor);
  if (error == std::errc() && end == text.data() + text.size() && floor >= 0) return floor;
  throw InputError(concat("'", path, "': expert_min_tokens '", text, "' is not a number"));
}

// Neither a store nor what to make of it: the model is a quantized checkpoint.
bool converts(const Options& options) {
  return !options.given("store") && !options.given("format") && !options.given("recipe");
}

void run(const Options& options, const World* world) {
  if (converts(options)) {
    return wanted_library(options) == nullptr ? convert_checkpoint(options, *world)
                                              : export_to_library(options, *world);
  }
  const std::vector<Recipe> recipes = read_recipes(options);
  const fs::path model_dir = options.required("model");
  const fs::path out = without_trailing_slash(options.required("out"));
  const std::string path = options.required("store");
  const RunSetup setup(options, *world);
  const StatisticsStore store = StatisticsStore::open(path);
  const Checkpoint checkpoint = open_source(options);
  require_same_model(checkpoint, setup.cluster());
  if (store.text("model_fingerprint") != checkpoint.fingerprint()) {
    throw UsageError(
        concat("'", path, "' was calibrated on another model than '", model_dir.string(), "'"));
  }
  if (store.stages_done() != store.stages()) {
    throw UsageError(concat("'", path, "' is not complete: ", store.stages_done(), " of ",
                            store.stages(), " stages"));
  }
  const Json stored = parse_json(store.text("recipes"), path);
  for (const Recipe& recipe : recipes) check_recipe(recipe, stored, path);

  const std::unique_ptr<Model> model = open_model(options, checkpoint);
  const SourceLayout source(checkpoint, *model);
  for (const Recipe& recipe : recipes) check_rules(options, *model, recipe, setup.speaks());
  check_output(out, model_dir, options.get_flag("overwrite"));
  const fs::path assembly = assembly_folder(options, out);
  const std::vector<Target> targets = make_targets(options, source, *model, recipes, assembly);
  check_engines(options, *model, targets, setup.speaks());
  const Cluster& cluster = setup.cluster();
  make_parent(out, setup.speaks(), cluster.control);
  check_shared_folder(out.parent_path(), seat_of(*world, cluster.control), cluster.control,
                      "--out");
  QuantizeOptions quantize_options =
      quantize_options_of(options, source, *model, targets, assembly, cluster);
  quantize_options.compute_dtype = stored_dtype(store, path);
  quantize_options.from_store = &store;
  quantize_options.expert_floor = stored_floor(store, path);
  set_residency(options, source, *model, targets, /*calibrate_on_compressed=*/false, setup,
                quantize_options);
  plan_memory(source, *model, targets, {}, options, cluster, quantize_options);
  QuantizeResult result =
      quantize(source, *model, targets, {}, nullptr, quantize_options, setup.cluster());
  reshard_outputs(options, out, cluster, result);
  write_library_outputs(options, out, cluster, result);
  if (!setup.speaks()) return;
  log_memory(result.predicted, result.host_bytes, result.device_bytes);
  print_result(options, result);
}

}  // namespace

Command export_command() {
  return {"export", "another checkpoint from a calibration store, no forward pass", true, &options,
          &run};
}

}  // namespace halftone
