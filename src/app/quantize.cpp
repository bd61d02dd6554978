#include "engine/quantize.h"

#include <cstdio>

#include "app/commands.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/summary.h"
#include "engine/weight_source.h"
#include "model/family.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone quantize --model DIR --format NAME[,NAME...] --out DIR [options]",
                  "Calibrates a model, quantizes it and writes the quantized checkpoint.");
  options.group("What");
  options.text("model", "DIR", "", "the checkpoint: a Hugging Face folder");
  options.text("format", "NAME[,NAME]", "", "formats to write (halftone formats lists them)");
  options.text("recipe", "FILE.yaml", "", "your own rules instead of --format");
  options.text("kv-cache", "NAME", "none", "KV cache format: none, fp8, fp8_cast");
  add_calibration_options(options);
  options.group("Output");
  options.text("out", "DIR", "", "where the checkpoint goes; with several formats DIR/FORMAT");
  options.choice("target", {"hf"}, "hf", "layout of the output");
  options.integer("max-shard-size", 10'000'000'000, 1, INT64_MAX, "bytes per weight file");
  options.text("workspace", "DIR", "", "where the calibration store is kept [OUT.workspace]");
  options.flag("overwrite", "replace an existing output");
  add_run_options(options);
  return options;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<Recipe> read_recipes(const Options& options) {
  std::vector<Recipe> recipes;
  const std::vector<std::string> names = split(options.get("format"));
  if (options.given("recipe")) {
    if (!names.empty()) throw UsageError("--format and --recipe exclude each other");
    recipes.push_back(load_recipe_file(options.get("recipe")));
  } else if (names.empty()) {
    throw UsageError("--format (or --recipe) is missing; halftone formats lists the formats");
  }
  for (const std::string& name : names) {
    recipes.push_back(load_preset(name, "ptq"));
    for (size_t i = 0; i + 1 < recipes.size(); ++i) {
      if (recipes[i].name == recipes.back().name) {
        throw UsageError(concat("--format names '", recipes.back().name, "' twice"));
      }
    }
  }
  for (Recipe& recipe : recipes) add_kv_cache(recipe, options.get("kv-cache"));
  return recipes;
}

fs::path without_trailing_slash(const std::string& path) {
  const fs::path clean = fs::absolute(path).lexically_normal();
  return clean.has_filename() ? clean : clean.parent_path();
}

// The folder that will hold the outputs must be writable before the work begins; an output that
// exists is refused.
void check_output(const fs::path& out, const fs::path& model, bool overwrite) {
  if (fs::exists(out) && !overwrite) {
    throw UsageError(concat("'", out.string(), "' exists already: choose another --out, or pass ",
                            "--overwrite"));
  }
  if (fs::exists(out) && fs::equivalent(out, model)) {
    throw UsageError("--out must not be the --model itself");
  }
}

void make_parent(const fs::path& out, bool speaks, Communicator& ranks) {
  if (speaks) {
    std::error_code error;
    fs::create_directories(out.parent_path(), error);
    if (error) {
      throw ResourceError(concat("cannot create '", out.parent_path().string(),
                                 "': ", error.message(), " (choose another --out)"));
    }
  }
  ranks.barrier();
}

// The store of this run, on rank 0. It gets its name when the run is complete.
class RunStore {
 public:
  RunStore(const Options& options, const fs::path& out, const Checkpoint& checkpoint,
           const std::string& data, const std::vector<Recipe>& recipes) {
    const bool derived = !options.given("workspace");
    const fs::path folder =
        derived ? fs::path(out.string() + ".workspace") : fs::path(options.get("workspace"));
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
      throw ResourceError(concat("cannot create '", folder.string(), "': ", error.message(),
                                 " (choose another --workspace)"));
    }
    final_ = folder / "calibration.h5";
    partial_ = folder / "calibration.h5.partial";
    const std::string model = checkpoint.fingerprint();
    if (!derived && !options.get_flag("overwrite")) refuse_foreign(model, data);
    store_.emplace(StatisticsStore::create(partial_));
    store_->set_text("model_fingerprint", model);
    store_->set_text("data_fingerprint", data);
    Json list = Json::array();
    for (const Recipe& recipe : recipes) list.push_back(to_json(recipe));
    store_->set_text("recipes", list.dump());
  }

  StatisticsStore& store() { return *store_; }

  void publish() {
    store_->flush();
    store_.reset();
    fs::rename(partial_, final_);
    sync_directory(final_.parent_path());
  }

 private:
  void refuse_foreign(const std::string& model, const std::string& data) const {
    if (!fs::exists(final_)) return;
    const StatisticsStore old = StatisticsStore::open(final_);
    if (old.text("model_fingerprint") == model && old.text("data_fingerprint") == data) return;
    throw UsageError(concat("'", final_.string(),
                            "' belongs to another model or other data: choose ",
                            "another --workspace, or pass --overwrite"));
  }

  fs::path final_;
  fs::path partial_;
  std::optional<StatisticsStore> store_;
};

void print_table(const QuantizeResult& result) {
  std::printf("%-12s %10s %12s  %s\n", "format", "MB", "bits/weight", "checkpoint");
  for (const QuantizeResult::Output& output : result.outputs) {
    std::printf("%-12s %10.2f %12.3f  %s\n", output.format.c_str(),
                static_cast<double>(output.bytes) / 1e6, output.bits_per_weight,
                output.dir.c_str());
    if (output.fallbacks > 0) {
      std::printf("  %lld linears fell back; see summary.json\n",
                  static_cast<long long>(output.fallbacks));
    }
  }
}

void run(const Options& options, const World* world) {
  const std::vector<Recipe> recipes = read_recipes(options);
  const fs::path model_dir = options.required("model");
  const fs::path out = without_trailing_slash(options.required("out"));
  const RunSetup setup(options, *world);
  const bool speaks = setup.speaks();

  const Checkpoint checkpoint(model_dir);
  if (is_quantized(checkpoint)) {
    throw InputError(concat("'", model_dir.string(), "' is quantized already (config.json has a ",
                            "quantization_config): give the original checkpoint"));
  }
  const std::unique_ptr<Model> model = make_model(checkpoint);
  check_tensors(checkpoint, *model);
  const bool overwrite = options.get_flag("overwrite");
  check_output(out, model_dir, overwrite);
  std::vector<Target> targets;
  for (const Recipe& recipe : recipes) {
    const fs::path dir = recipes.size() == 1 ? out : out / recipe.name;
    targets.push_back(
        make_target(checkpoint, *model, recipe, dir, options.get_integer("max-shard-size")));
  }
  if (speaks) {
    for (const std::string& name : targets.front().hf.accounting.extra) {
      log_warn("tensor '", name, "' is not part of the model: it is copied as it is");
    }
  }

  std::vector<Batch> batches;
  std::string data = "none";
  if (needs_forward(*model, targets)) {
    const LoadedData loaded = load_data(data_request(options, "calib", kCalibrationText), model_dir,
                                        model->vocabulary(), model->max_positions());
    data = fingerprint(loaded.dataset);
    batches = make_batches(loaded.dataset.samples, batch_size(options, loaded.dataset),
                           loaded.pad_id, PadSide::kLeft, /*common_length=*/true);
    if (speaks) {
      log_info(loaded.dataset.samples.size(), " samples in ", batches.size(), " batches on ",
               world->size(), world->size() == 1 ? " rank" : " ranks");
    }
  } else if (speaks) {
    log_info("no format asks for activations: the calibration data is not read");
  }

  make_parent(out, speaks, setup.cluster().control);
  std::optional<RunStore> store;
  if (speaks) store.emplace(options, out, checkpoint, data, recipes);
  QuantizeOptions quantize_options;
  quantize_options.compute_dtype = compute_dtype(options, model_dtype(checkpoint));
  quantize_options.numerics = numerics(options);
  quantize_options.count_padding = options.get_flag("count-padding");
  quantize_options.overwrite = overwrite;
  quantize_options.out = out;
  quantize_options.resolved = options.resolved();
  const QuantizeResult result =
      quantize(checkpoint, *model, targets, batches, store ? &store->store() : nullptr,
               quantize_options, setup.cluster());
  if (!speaks) return;
  store->publish();
  if (options.get_flag("json")) {
    print_json(to_json(result));
  } else {
    print_table(result);
  }
}

}  // namespace

Command quantize_command() {
  return {"quantize", "calibrate, quantize and export a model", true, &options, &run};
}

}  // namespace halftone
