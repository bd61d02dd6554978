#include <algorithm>
#include <optional>

#include "app/budgets.h"
#include "app/commands.h"
#include "app/data.h"
#include "app/library_layout.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "app/trtllm.h"
#include "core/error.h"
#include "core/log.h"
#include "core/stop_signal.h"
#include "dist/preflight.h"
#include "engine/run_journal.h"
#include "engine/stage_times.h"
#include "engine/summary.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone quantize --model DIR --format NAME[,NAME...] --out DIR [options]",
                  "Calibrates a model, quantizes it and writes the quantized checkpoint.");
  options.group("What");
  add_target_options(options);
  add_calibration_options(options);
  add_output_options(options);
  add_workspace_options(options);
  add_run_options(options);
  options.text("trace", "FILE", "", "write what every rank did when, for chrome://tracing");
  return options;
}

// A store that somebody chose the place of is not replaced by that of another model or other data.
void refuse_foreign_store(const Options& options, const fs::path& folder,
                          const Checkpoint& checkpoint, const std::string& data) {
  const fs::path path = folder / "calibration.h5";
  if (!options.given("workspace") || options.get_flag("overwrite") || !fs::exists(path)) return;
  const StatisticsStore old = StatisticsStore::open(path);
  if (old.text("model_fingerprint") == checkpoint.fingerprint() &&
      old.text("data_fingerprint") == data)
    return;
  throw UsageError(concat("'", path.string(), "' belongs to another model or other data: choose ",
                          "another --workspace, or pass --overwrite"));
}

JournalOptions journal_options(const Options& options, const fs::path& out,
                               const Checkpoint& checkpoint, const std::string& data,
                               const std::vector<Recipe>& recipes, const QuantizeOptions& run,
                               at::Device device) {
  Json list = Json::array();
  for (const Recipe& recipe : recipes) list.push_back(to_json(recipe));
  const std::string model = checkpoint.fingerprint();
  JournalOptions journal;
  journal.workspace = workspace_of(options, out);
  journal.identity = {{"halftone version", HALFTONE_VERSION},
                      {"model", model},
                      {"model's time of change", checkpoint.change_time()},
                      {"data", data},
                      {"output", out.string()},
                      {"recipe", list},
                      {"kind of device", device.is_cuda() ? "cuda" : "cpu"},
                      {"dtype", name_of(run.compute_dtype)},
                      {"numerics", options.get("numerics")},
                      {"target", options.get("target")},
                      {"max-shard-size", run.max_shard_bytes},
                      {"count-padding", run.count_padding},
                      {"calibrate-on", options.get("calibrate-on")},
                      {"moe-calib-experts-ratio", run.observed_experts},
                      {"expert-min-tokens", run.expert_floor},
                      {"seed", options.get_integer("seed")}};
  journal.texts = {{"model_fingerprint", model},
                   {"data_fingerprint", data},
                   {"recipes", list.dump()},
                   {"calibrated_on", options.get("calibrate-on")},
                   {"compute_dtype", name_of(run.compute_dtype)},
                   {"expert_min_tokens", std::to_string(run.expert_floor)}};
  journal.resume = options.get("resume") == "auto";
  journal.overwrite = options.get_flag("overwrite");
  journal.overhead = options.get_number("save-overhead");
  return journal;
}

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
  const bool on_compressed = calibrates_on_compressed(options);
  const fs::path model_dir = options.required("model");
  const fs::path out = without_trailing_slash(options.required("out"));
  install_stop_signals();
  const RunSetup setup(options, *world);
  const bool speaks = setup.speaks();

  const Checkpoint checkpoint = open_source(options);
  require_same_model(checkpoint, setup.cluster());
  const std::unique_ptr<Model> model = open_model(options, checkpoint);
  const SourceLayout source(checkpoint, *model);
  for (const Recipe& recipe : recipes) check_rules(options, *model, recipe, speaks);
  if (speaks) {
    // With a manifest the output may be that of this very command.
    const bool interrupted = Workspace(workspace_of(options, out)).has_manifest();
    if (!interrupted) check_output(out, model_dir, options.get_flag("overwrite"));
    check_trace(options);
  }
  const fs::path assembly = assembly_folder(options, out);
  const std::vector<Target> targets = make_targets(options, source, *model, recipes, assembly);
  check_engines(options, *model, targets, speaks);
  if (speaks) {
    warn_of_extra(*model, targets.front().hf.accounting.extra);
  }

  QuantizeOptions quantize_options =
      quantize_options_of(options, source, *model, targets, assembly, setup.cluster());
  set_residency(options, source, *model, targets, on_compressed, setup, quantize_options);

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

  quantize_options.compute_dtype = compute_dtype(options, model_dtype(checkpoint));
  quantize_options.count_padding = options.get_flag("count-padding");
  quantize_options.observed_experts = options.get_number("moe-calib-experts-ratio");
  quantize_options.expert_floor = options.get_integer("expert-min-tokens");
  plan_memory(source, *model, targets, shape_of(batches), options, setup.cluster(),
              quantize_options);
  const Cluster& cluster = setup.cluster();
  make_parent(out, speaks, cluster.control);
  if (speaks) refuse_foreign_store(options, workspace_of(options, out), checkpoint, data);
  RunJournal journal(
      journal_options(options, out, checkpoint, data, recipes, quantize_options, cluster.device),
      *model, cluster);
  std::optional<QuantizeResult> result = published_result(options, out, journal, cluster.control);
  if (result) {
    if (speaks) log_info("an earlier run of this command is complete: nothing is left to do");
    journal.clear();
  } else {
    if (speaks) check_output(out, model_dir, options.get_flag("overwrite"));
    const HostSeat seat = seat_of(*world, cluster.control);
    check_shared_folder(out.parent_path(), seat, cluster.control, "--out");
    check_shared_folder(workspace_of(options, out), seat, cluster.control, "--workspace");
    try {
      result = quantize(source, *model, targets, batches, &journal, quantize_options, cluster);
    } catch (const ReadError&) {
      throw;
    } catch (const InputError&) {
      journal.forget();
      throw;
    }
  }
  reshard_outputs(options, out, cluster, *result);
  write_library_outputs(options, out, cluster, *result);
  if (options.given("trace")) write_trace(options.get("trace"), *model, cluster);
  if (!speaks) return;
  // As late as can be: without it the same command would find an output that exists already.
  world->at_end([workspace = Workspace(workspace_of(options, out))] { forget(workspace); });
  log_memory(result->predicted, result->host_bytes, result->device_bytes);
  print_result(options, *result);
}

}  // namespace

Command quantize_command() {
  return {"quantize", "calibrate, quantize and export a model", true, &options, &run};
}

}  // namespace halftone
