#include "app/quantize_run.h"

#include <algorithm>
#include <cstdio>

#include "app/library_layout.h"
#include "app/trtllm.h"
#include "app/verify_report.h"
#include "calibrate/quantizer_names.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/library_export.h"
#include "engine/summary.h"
#include "engine/weight_source.h"
#include "model/family.h"

namespace halftone {
namespace {

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

bool is_published(const QuantizeResult& result) {
  return std::all_of(result.outputs.begin(), result.outputs.end(), [](const auto& output) {
    const fs::path summary = output.dir / "summary.json";
    return fs::exists(summary) && read_json_file(summary).value("digest", "") == output.digest;
  });
}

}  // namespace

void add_target_options(Options& options) {
  options.text("model", "DIR", "", "the checkpoint: a Hugging Face, Megatron-core or NeMo folder");
  add_source_option(options);
  add_family_option(options);
  options.text("format", "NAME[,NAME]", "", "formats to write (halftone formats lists them)");
  options.text("recipe", "NAME|FILE.yaml", "", "a built-in recipe or your own instead of --format");
  options.flag("strict", "a rule of your recipe that matches nothing is an error");
  options.text("kv-cache", "NAME", "none", "KV cache format (halftone formats lists them)");
}

void add_output_options(Options& options) {
  options.group("Output");
  options.text("out", "DIR", "", "where the checkpoint goes; with several formats DIR/FORMAT");
  add_layout_options(options);
  options.flag("fused-scales",
               "FP8 weights that engines merge (q, k, v; gate, up) share one scale");
  options.integer("max-shard-size", 10'000'000'000, 1, INT64_MAX, "bytes per weight file");
  options.flag("overwrite", "replace an existing output");
  add_engine_option(options);
}

void add_workspace_options(Options& options) {
  options.group("Workspace");
  options.text("workspace", "DIR", "",
               "where the calibration store and what a resumed run needs are kept [OUT.workspace]");
  options.choice("resume", {"auto", "never"}, "auto",
                 "auto: go on where the same command was interrupted");
  options.number("save-overhead", 0.04, 0.0, 1.0,
                 "share of the run that saving for a resumed one may cost; 1: save every layer");
}

fs::path workspace_of(const Options& options, const fs::path& out) {
  return options.given("workspace") ? fs::path(options.get("workspace"))
                                    : fs::path(out.string() + ".workspace");
}

std::vector<Recipe> read_recipes(const Options& options) {
  std::vector<Recipe> recipes;
  const std::vector<std::string> names = split(options.get("format"));
  if (options.given("recipe")) {
    if (!names.empty()) throw UsageError("--format and --recipe exclude each other");
    recipes.push_back(load_recipe(options.get("recipe")));
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
  adapt_recipes(options, recipes);
  return recipes;
}

fs::path without_trailing_slash(const std::string& path) {
  const fs::path clean = fs::absolute(path).lexically_normal();
  return clean.has_filename() ? clean : clean.parent_path();
}

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

void check_rules(const Options& options, const Model& model, const Recipe& recipe, bool speaks) {
  for (const UnmatchedRule& unmatched : unmatched_rules(recipe, quantizer_names(model))) {
    if (options.get_flag("strict")) throw UsageError(unmatched.message);
    if (speaks) log_warn(unmatched.message);
  }
}

std::unique_ptr<Model> open_model(const Options& options, const Checkpoint& checkpoint) {
  if (is_quantized(checkpoint)) {
    throw InputError(concat("'", checkpoint.directory().string(),
                            "' is quantized already (config.json has a quantization_config): give "
                            "the original checkpoint"));
  }
  return make_model(checkpoint, options.get("family"));
}

std::vector<Target> make_targets(const Options& options, const SourceLayout& source,
                                 const Model& model, const std::vector<Recipe>& recipes,
                                 const fs::path& out) {
  std::vector<Target> targets;
  for (const Recipe& recipe : recipes) {
    const bool alone = recipes.size() == 1;
    if (recipe.propagate == Recipe::Propagate::kQuantized && !alone) {
      throw UsageError(concat("'", recipe.name, "' calibrates each layer on quantized ones before ",
                              "it (propagate: quantized), so it cannot share a pass with other ",
                              "formats: give it a run of its own"));
    }
    targets.push_back(make_target(source, model, recipe, alone ? out : out / recipe.name,
                                  options.get_integer("max-shard-size")));
  }
  check_layout(options, source.checkpoint(), model, targets);
  return targets;
}

void check_engines(const Options& options, const Model& model, const std::vector<Target>& targets,
                   bool speaks) {
  for (const Engine engine : engines_of(options.get("engine"))) {
    for (const Target& target : targets) {
      std::vector<StagePlan> stages = target.plan.stages;
      QuantConfig config = target.config;
      if (const LibraryTarget* library = wanted_library(options)) {
        stages = in_library(*library, std::move(stages));
        config = {nullptr, library->config(quantized_modules(model, stages, {}), stages)};
      }
      const ServedCheckpoint served{
          model, stages, config, [&](const std::string& name) {
            return name == "hf_quant_config.json" ||
                   (name == "quant_cfg.json" && !config.quant_cfg.is_null());
          }};
      const Findings findings = check_engine(engine, options.get_integer("tp"), served);
      for (const Finding& finding : findings) {
        if (!finding.warning) {
          throw UsageError(concat("--engine ", name_of(engine), " cannot serve '",
                                  target.plan.recipe.name, "': ", text_of(finding),
                                  findings.size() > 1 ? " (and more)" : "",
                                  "; choose another --format, --kv-cache or --tp"));
        }
        if (speaks) log_warn("'", target.plan.recipe.name, "': ", text_of(finding));
      }
    }
  }
}

QuantizeOptions quantize_options_of(const Options& options, const SourceLayout& source,
                                    const Model& model, const std::vector<Target>& targets,
                                    const fs::path& out, const Cluster& cluster) {
  QuantizeOptions quantize_options;
  quantize_options.numerics = numerics(options);
  // Nobody else has anything where a layout's source is assembled.
  quantize_options.overwrite =
      options.get_flag("overwrite") || wants_trtllm(options) || wanted_library(options) != nullptr;
  quantize_options.out = out;
  quantize_options.space_beside = check_layout(options, source.checkpoint(), model, targets);
  quantize_options.resolved = options.resolved();
  quantize_options.stage_limit = stage_limit(options, cluster);
  return quantize_options;
}

void set_residency(const Options& options, const SourceLayout& source, const Model& model,
                   const std::vector<Target>& targets, bool calibrate_on_compressed,
                   const RunSetup& setup, QuantizeOptions& quantize_options) {
  const std::vector<LoadStep> steps = plan_loads(source.stages(), quantize_options.stage_limit);
  quantize_options.residency = settle_residency(options, steps, /*passes=*/1, setup);
  quantize_options.calibrate_on_compressed = calibrate_on_compressed;
  if (quantize_options.residency != Residency::kCompressed) return;
  std::vector<const TargetPlan*> plans;
  for (const Target& target : targets) plans.push_back(&target.plan);
  check_compressible(plans, model, steps, calibrate_on_compressed);
}

void forget(const Workspace& workspace) {
  try {
    workspace.remove_manifest();
  } catch (const Error& error) {
    log_warn(error.what());
  }
}

std::optional<QuantizeResult> published_result(const Options& options, const fs::path& out,
                                               const RunJournal& journal, Communicator& ranks) {
  if (!journal.completed()) return std::nullopt;
  const QuantizeResult result = quantize_result_of(*journal.completed(), "manifest.json");
  const bool found =
      ranks.rank() == 0 && (is_resharded(options, out, result) ||
                            is_in_library_layout(options, out, result) || is_published(result));
  int64_t published = found ? 1 : 0;
  ranks.broadcast(&published, sizeof(published), 0);
  return published != 0 ? std::optional(result) : std::nullopt;
}

void print_result(const Options& options, const QuantizeResult& result) {
  if (options.get_flag("json")) {
    print_json(to_json(result));
  } else {
    print_table(result);
  }
}

}  // namespace halftone
