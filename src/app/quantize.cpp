#include <algorithm>
#include <optional>

#include "app/commands.h"
#include "app/data.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/stage_times.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone quantize --model DIR --format NAME[,NAME...] --out DIR [options]",
                  "Calibrates a model, quantizes it and writes the quantized checkpoint.");
  options.group("What");
  add_target_options(options);
  add_calibration_options(options);
  add_output_options(options);
  options.text("workspace", "DIR", "", "where the calibration store is kept [OUT.workspace]");
  add_run_options(options);
  options.text("trace", "FILE", "", "write what every rank did when, for chrome://tracing");
  return options;
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

// Before the work begins: the trace is written when everything else is done.
void check_trace(const Options& options) {
  const fs::path path = options.get("trace");
  if (path.empty()) return;
  std::error_code error;
  if (fs::is_directory(fs::absolute(path).parent_path(), error) && !fs::is_directory(path, error)) {
    return;
  }
  throw ResourceError(concat("--trace: cannot write '", path.string(),
                             "': expected a file in a folder that exists"));
}

// Tensors of vision towers and next-token layers are nothing to wonder at.
void warn_of_extra(const Model& model, const std::vector<std::string>& extra) {
  std::vector<std::string> known = model.carried_prefixes();
  for (const std::string& prefix : model.next_token_prefixes()) known.push_back(prefix);
  for (const std::string& name : extra) {
    const bool carried = std::any_of(known.begin(), known.end(), [&](const std::string& prefix) {
      return name.starts_with(prefix);
    });
    if (!carried) {
      log_warn("tensor '", name, "' is not part of the model: it is copied as it is");
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
  const std::unique_ptr<Model> model = open_model(options, checkpoint);
  const SourceLayout source(checkpoint, *model);
  for (const Recipe& recipe : recipes) check_rules(options, *model, recipe, speaks);
  check_output(out, model_dir, options.get_flag("overwrite"));
  if (speaks) check_trace(options);
  const std::vector<Target> targets = make_targets(options, source, *model, recipes, out);
  if (speaks) {
    warn_of_extra(*model, targets.front().hf.accounting.extra);
  }

  std::vector<Batch> batches;
  std::string data = "none";
  if (needs_forward(*model, targets)) {
    LoadedData loaded = load_data(options, data_request(options, "calib"), checkpoint, *model);
    data = loaded.fingerprint;
    batches = std::move(loaded.batches);
    if (speaks) {
      log_info(loaded.samples, " samples in ", batches.size(), " batches on ", world->size(),
               world->size() == 1 ? " rank" : " ranks");
    }
  } else if (speaks) {
    log_info("no format asks for activations: the calibration data is not read");
  }

  make_parent(out, speaks, setup.cluster().control);
  QuantizeOptions quantize_options = quantize_options_of(options, out, *world);
  quantize_options.compute_dtype = compute_dtype(options, model_dtype(checkpoint));
  quantize_options.count_padding = options.get_flag("count-padding");
  quantize_options.observed_experts = options.get_number("moe-calib-experts-ratio");
  quantize_options.expert_floor = options.get_integer("expert-min-tokens");
  std::optional<RunStore> store;
  if (speaks) {
    store.emplace(options, out, checkpoint, data, recipes);
    store->store().set_text("compute_dtype", name_of(quantize_options.compute_dtype));
    store->store().set_text("expert_min_tokens", std::to_string(quantize_options.expert_floor));
  }
  const QuantizeResult result =
      quantize(source, *model, targets, batches, store ? &store->store() : nullptr,
               quantize_options, setup.cluster());
  if (options.given("trace")) write_trace(options.get("trace"), *model, setup.cluster());
  if (!speaks) return;
  store->publish();
  print_result(options, result);
}

}  // namespace

Command quantize_command() {
  return {"quantize", "calibrate, quantize and export a model", true, &options, &run};
}

}  // namespace halftone
