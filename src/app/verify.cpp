#include "engine/verify.h"

#include <algorithm>
#include <array>
#include <optional>

#include "app/budgets.h"
#include "app/commands.h"
#include "app/data.h"
#include "app/run_setup.h"
#include "app/verify_report.h"
#include "app/verify_trtllm.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/weight_source.h"
#include "evaluate/tasks/perplexity.h"
#include "export/trtllm_export.h"
#include "model/family.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone verify DIR [--against SOURCE] [options]",
                  "Opens an exported checkpoint again and says what is wrong with it: exit code 6 "
                  "if anything is.");
  options.group("What");
  options.text("dir", "DIR", "", "the exported checkpoint");
  options.positional("dir");
  options.text("against", "SOURCE", "", "the checkpoint that it was made from");
  options.text("workspace", "DIR", "",
               "where the unified form of TensorRT-LLM's rank files is made for --against and "
               "--calib, on a file system of all hosts; default: the system's temporary folder");
  add_source_option(options);
  add_family_option(options);
  options.group("Engines");
  add_engine_option(options);
  options.integer("tp", 1, 1, 4096, "GPUs over which they share each layer");
  options.group("Perplexity");
  options.paths("calib", "measure the packed weights (and the source's) on this text, as evaluate");
  options.integer("calib-samples", 128, 0, 100'000'000, "use the first N samples, 0: all");
  options.integer("calib-length", 512, 2, 10'000'000, "cut samples to N tokens");
  options.text("text-field", "NAME", "text", "the field of JSONL that holds the text");
  options.text("target-field", "NAME", "target",
               "the field that holds the decoder's text (encoder-decoder models)");
  options.integer_or_auto("batch-size", 1, 65536, "samples per batch");
  add_run_options(options);
  return options;
}

// The source of a checkpoint, opened once.
struct Against {
  Checkpoint checkpoint;
  std::unique_ptr<Model> model;
  SourceLayout layout;

  explicit Against(const Options& options)
      : checkpoint(open_source(options, "against")),
        model(open(checkpoint, options.get("family"))),
        layout(checkpoint, *model) {}

 private:
  static std::unique_ptr<Model> open(const Checkpoint& checkpoint, const std::string& family) {
    if (is_quantized(checkpoint)) {
      throw UsageError(concat("--against: '", checkpoint.directory().string(),
                              "' is quantized itself: give the checkpoint that was quantized"));
    }
    return make_model(checkpoint, family);
  }
};

void require_same_architecture(const Checkpoint& a, const Checkpoint& b) {
  const auto architectures = [](const Checkpoint& checkpoint) {
    const auto found = checkpoint.config().find("architectures");
    return found == checkpoint.config().end() ? Json() : *found;
  };
  if (architectures(a) == architectures(b)) return;
  throw UsageError(concat("--against: '", b.directory().string(), "' is ", architectures(b).dump(),
                          ", but '", a.directory().string(), "' is ", architectures(a).dump(),
                          ": give the checkpoint that it was made from"));
}

Perplexity perplexity_of(const Options& options, const Checkpoint& checkpoint, Model& model,
                         WeightSource& source, const std::vector<Batch>& batches,
                         const Cluster& cluster) {
  const LayerPassOptions how{compute_dtype(options, model_dtype(checkpoint)),
                             stage_limit(options, cluster)};
  plan_evaluation(source, model, how.compute_dtype, true, shape_of(batches), options, cluster);
  return evaluate_perplexity(checkpoint, model, source, batches, how, cluster);
}

Json to_json(const Perplexity& result) {
  return {{"value", result.value}, {"nll", result.nll}, {"tokens", result.tokens}};
}

// As `evaluate --data` measures it.
Json measure(const Options& options, const Checkpoint& checkpoint, Against* against,
             const Cluster& cluster) {
  DataRequest request = data_request(options, "calib");
  request.side = PadSide::kRight;
  request.common_length = false;
  const std::unique_ptr<Model> model = make_model(checkpoint, options.get("family"));
  const LoadedData data = load_data(options, request, checkpoint, *model);
  const auto packed = make_exported_source(checkpoint, *model);
  const Perplexity found =
      perplexity_of(options, checkpoint, *model, *packed, data.batches, cluster);
  Json json = to_json(found);
  if (against == nullptr) return json;
  const auto original = make_original_source(against->layout);
  const Perplexity expected = perplexity_of(options, against->checkpoint, *against->model,
                                            *original, data.batches, cluster);
  json["source"] = to_json(expected);
  json["change_percent"] = 100.0 * (found.value / expected.value - 1.0);
  return json;
}

Findings to_findings(const std::vector<FileFault>& faults) {
  Findings findings;
  for (const FileFault& fault : faults) {
    findings.push_back({fault.rule, fault.tensor, fault.file, fault.expected, fault.found});
  }
  return findings;
}

// An export whose config.json does not say so: engines that read no other file take it for plain.
Findings missing_config(const Checkpoint& checkpoint) {
  const char* other = "hf_quant_config.json";
  if (checkpoint.config().contains("quantization_config")) return {};
  if (!fs::exists(checkpoint.directory() / other)) return {};
  return {{"missing-config-file",
           {},
           "config.json",
           concat("a quantization_config that says what ", other, " says"),
           "none"}};
}

// Behind this the checkpoint's files are whole.
void verify_contents(const Options& options, const Checkpoint& checkpoint, const RunSetup& setup,
                     const std::vector<Engine>& engines, VerifyResult& result) {
  const Cluster& cluster = setup.cluster();
  std::optional<Against> against;
  if (options.given("against")) {
    against.emplace(options);
    require_same_architecture(checkpoint, against->checkpoint);
    require_same_model(against->checkpoint, cluster);
  }
  // The source's, where there is one: a damaged checkpoint may not even say which model it is.
  const std::unique_ptr<Model> own =
      against ? nullptr : make_model(checkpoint, options.get("family"));
  const Model& model = against ? *against->model : *own;
  const VerifyOptions verify{CheckDepth::kWhole, engines, options.get_integer("tp")};
  VerifyReport report =
      verify_checkpoint(checkpoint, model, against ? &against->layout : nullptr, verify, cluster);
  report.findings.insert(report.findings.begin(), result.report.findings.begin(),
                         result.report.findings.end());
  result.report = std::move(report);
  if (!options.given("calib")) return;
  if (problems_in(result.report.findings) == 0) {
    result.perplexity = measure(options, checkpoint, against ? &*against : nullptr, cluster);
  } else if (setup.speaks()) {
    log_warn("perplexity is not measured: the checkpoint has problems");
  }
}

VerifyResult verify_hf(const Options& options, const fs::path& folder, const RunSetup& setup) {
  VerifyResult result;
  std::vector<FileFault> faults;
  const Checkpoint checkpoint(folder, faults);
  result.tensors = std::ssize(checkpoint.names());
  result.bytes = checkpoint.total_bytes();
  result.report.findings = faults.empty() ? missing_config(checkpoint) : to_findings(faults);
  if (!result.report.findings.empty()) {
    if (setup.speaks()) log_warn("the tensors are not looked at before this is mended");
    return result;
  }
  require_same_model(checkpoint, setup.cluster());
  if (!is_export(checkpoint)) {
    throw InputError(concat("'", folder.string(),
                            "' is not an exported checkpoint: its config.json has no "
                            "quantization_config of one"));
  }
  verify_contents(options, checkpoint, setup, engines_of(options.get("engine")), result);
  return result;
}

VerifyResult verify_ranks(const Options& options, const fs::path& folder, const RunSetup& setup) {
  return verify_trtllm(options, folder, setup,
                       [&](const Checkpoint& unified, VerifyResult& result) {
                         // The engines have been asked about the rank files.
                         verify_contents(options, unified, setup, {}, result);
                       });
}

// A layout of exported checkpoints: what its folders hold and how it is verified. The last one
// takes all that is left.
struct Layout {
  bool (*is)(const fs::path& folder);
  VerifyResult (*verify)(const Options& options, const fs::path& folder, const RunSetup& setup);
};
constexpr std::array kLayouts{
    Layout{&is_trtllm, &verify_ranks},
    Layout{[](const fs::path&) { return true; }, &verify_hf},
};

void run(const Options& options, const World* world) {
  const fs::path folder = options.required("dir");
  engines_of(options.get("engine"));  // a wrong name is found before anything is read
  const RunSetup setup(options, *world);
  const auto layout = std::find_if(kLayouts.begin(), kLayouts.end() - 1,
                                   [&](const Layout& one) { return one.is(folder); });
  const VerifyResult result = layout->verify(options, folder, setup);
  if (setup.speaks()) print_report(options, folder, result);
  require_no_problems(result.report.findings, "'" + folder.string() + "'");
}

}  // namespace

void add_engine_option(Options& options) {
  options.text("engine", "NAME[,NAME]", "", "also check what these ask for: vllm, sglang, trtllm");
}

Command verify_command() {
  return {"verify", "what is wrong with an exported checkpoint", true, &options, &run};
}

}  // namespace halftone
