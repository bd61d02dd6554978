#include "app/trtllm.h"

#include <cstdio>

#include "app/library_layout.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"
#include "dist/preflight.h"
#include "engine/exported_formats.h"
#include "engine/weight_source.h"
#include "export/reshard.h"
#include "export/staged_output.h"
#include "export/trtllm_export.h"
#include "export/trtllm_layout.h"
#include "export/unified_sidecar.h"

namespace halftone {
namespace {

const Family& family(const Options& options, const Checkpoint& checkpoint) {
  const std::string& name = options.get("family");
  return name.empty() ? family_of(checkpoint) : family_named(name);
}

// A unified checkpoint on disk with everything that its layout follows from.
class ReadUnified {
 public:
  ReadUnified(const Options& options, const fs::path& folder)
      : checkpoint_(folder),
        model_(make_model(checkpoint_, options.get("family"))),
        stages_(exported_formats(checkpoint_, *model_)),
        form_{family(options, checkpoint_),
              *model_,
              stages_,
              checkpoint_.config(),
              model_dtype(checkpoint_),
              tensors_of(checkpoint_)} {
    make_exported_source(checkpoint_, *model_);  // checks every tensor's dtype and shape
  }

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const UnifiedForm& form() const { return form_; }

 private:
  Checkpoint checkpoint_;
  std::unique_ptr<Model> model_;
  std::vector<StagePlan> stages_;
  UnifiedForm form_;
};

int64_t tensor_bytes(const ReshardPlan& plan) {
  int64_t bytes = 0;
  for (const ReshardPlan::OutputFile& file : plan.files) {
    for (const auto& [name, info] : file.layout.tensors) bytes += info.bytes;
  }
  return bytes;
}

// From a unified checkpoint into a folder that is not published yet; the bytes of the rank files'
// tensors.
int64_t reshard(const Options& options, const fs::path& unified, const fs::path& folder,
                const Cluster& cluster) {
  const ReadUnified read(options, unified);
  const Parallelism parallel = parallelism(options);
  check_trtllm(read.form(), parallel);
  const ReshardPlan plan = plan_trtllm(read.form(), parallel);
  check_equal_scales(plan, read.checkpoint(), cluster.control);
  write_trtllm(read.form(), plan, parallel, read.checkpoint(), folder, cluster.control,
               cluster.pool);
  return tensor_bytes(plan);
}

// From rank files into a folder that is not published yet.
int64_t restore(const Options& options, const fs::path& source, const fs::path& folder,
                const Cluster& cluster) {
  const Parallelism parallel = parallelism_of(source);
  const fs::path sidecar = source / kUnifiedFolder;
  if (cluster.control.rank() == 0) restore_unified(sidecar, folder);
  cluster.control.barrier();
  const ReadUnified read(options, folder);
  check_trtllm(read.form(), parallel);
  const ReshardPlan plan = plan_trtllm(read.form(), parallel);
  check_sharded(plan, source, sidecar / kRestFile);
  read_sharded(plan, source, sidecar / kRestFile, read.checkpoint(), cluster.control, cluster.pool);
  return read.checkpoint().total_bytes();
}

std::string digest_on_all(const fs::path& folder, Communicator& ranks) {
  return broadcast_text(ranks, ranks.rank() == 0 ? digest_of_directory(folder) : "", 0);
}

// What a resharded output's summary says of how it was made.
Json layout_json(const Options& options, const std::string& unified_digest) {
  return {{"target", options.get("target")},
          {"tp", options.get_integer("tp")},
          {"pp", options.get_integer("pp")},
          {"unified_digest", unified_digest}};
}

// The place of an output in `out`.
fs::path published_folder(const Options& options, const fs::path& out,
                          const QuantizeResult::Output& output) {
  const fs::path relative = output.dir.lexically_relative(assembly_folder(options, out));
  return without_trailing_slash((out / relative).string());
}

// Of an output that an earlier run published; rank 0's result is what is printed.
void describe_published(const Options& options, const fs::path& out, QuantizeResult& result) {
  for (QuantizeResult::Output& output : result.outputs) {
    output.dir = published_folder(options, out, output);
    if (!fs::exists(output.dir / "summary.json")) continue;  // not seen yet by another host
    const Json summary = read_json_file(output.dir / "summary.json");
    output.digest = summary.value("digest", "");
    output.bytes = summary.value("bytes", int64_t{0});
  }
}

// Rubbish: what cannot be removed is only warned of.
void remove_folder(const fs::path& folder, const Communicator& ranks) {
  if (ranks.rank() != 0) return;
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) log_warn("cannot remove '", folder.string(), "': ", error.message());
}

void require_sidecar(const fs::path& source) {
  if (fs::is_directory(source / kUnifiedFolder)) return;
  throw InputError(concat("'", source.string(), "' has no folder '", kUnifiedFolder,
                          "', which halftone writes beside rank files and needs for the way back: "
                          "export the original checkpoint instead"));
}

void print_conversion(const Options& options, const fs::path& out, const std::string& digest,
                      int64_t bytes) {
  if (options.get_flag("json")) {
    print_json({{"outputs",
                 {{{"target", options.get("target")},
                   {"dir", out.string()},
                   {"digest", digest},
                   {"bytes", bytes}}}}});
  } else {
    std::printf("%-12s %10.2f MB  %s\n", options.get("target").c_str(),
                static_cast<double>(bytes) / 1e6, out.c_str());
  }
}

}  // namespace

void add_layout_options(Options& options) {
  constexpr int64_t kMost = 1024;
  std::vector<std::string> targets{"hf", "trtllm"};
  for (const std::string& name : library_target_names()) targets.push_back(name);
  options.choice("target", targets, "hf", "layout of the output");
  options.integer("tp", 1, 1, kMost,
                  "tensor parallelism of inference, with --target trtllm or --engine");
  options.integer("pp", 1, 1, kMost, "pipeline parallelism of inference, with --target trtllm");
}

bool wants_trtllm(const Options& options) {
  return options.get("target") == "trtllm";
}

Parallelism parallelism(const Options& options) {
  if (!wants_trtllm(options)) {
    if (options.get_integer("tp") > 1 && options.get("engine").empty()) {
      throw UsageError("--tp needs --target trtllm, or an --engine to check for");
    }
    if (options.get_integer("pp") > 1) {
      throw UsageError("--pp needs --target trtllm: other layouts have no ranks");
    }
  }
  return {options.get_integer("tp"), options.get_integer("pp")};
}

void adapt_recipes(const Options& options, std::vector<Recipe>& recipes) {
  parallelism(options);
  const bool fused = wants_trtllm(options) || options.get_flag("fused-scales");
  for (Recipe& recipe : recipes) {
    recipe.fused_scales = fused;
    recipe.folded_smoothing = wanted_library(options) != nullptr;
  }
}

void check_layout(const Options& options, const Checkpoint& source, const Model& model,
                  const std::vector<Target>& targets) {
  if (const LibraryTarget* library = wanted_library(options)) {
    for (const Target& target : targets) check_library(*library, model, target.plan.stages);
  }
  if (!wants_trtllm(options)) return;
  const Parallelism parallel = parallelism(options);
  for (const Target& target : targets) {
    UnifiedForm form{family(options, source), model, target.plan.stages, source.config(),
                     model_dtype(source),     {}};
    for (const HfLayout::OutputFile& file : target.hf.layout.files) {
      for (const auto& [name, info] : file.layout.tensors) {
        form.tensors[name] = {name, info.dtype, info.shape};
      }
    }
    check_trtllm(form, parallel);
    plan_trtllm(form, parallel);  // refuses tensors that have no place
  }
}

fs::path assembly_folder(const Options& options, const fs::path& out) {
  if (!wants_trtllm(options) && wanted_library(options) == nullptr) return out;
  return out.parent_path() / concat(".", out.filename().string(), ".unified");
}

bool is_resharded(const Options& options, const fs::path& out, const QuantizeResult& result) {
  if (!wants_trtllm(options)) return false;
  for (const QuantizeResult::Output& output : result.outputs) {
    const fs::path summary = published_folder(options, out, output) / "summary.json";
    if (!fs::exists(summary)) return false;
    const Json found = read_json_file(summary);
    if (found.value("layout", Json()) != layout_json(options, output.digest)) return false;
  }
  return true;
}

void reshard_outputs(const Options& options, const fs::path& out, const Cluster& cluster,
                     QuantizeResult& result) {
  if (!wants_trtllm(options)) return;
  const fs::path assembly = assembly_folder(options, out);
  Communicator& ranks = cluster.control;
  int64_t done = ranks.rank() == 0 && is_resharded(options, out, result) ? 1 : 0;
  ranks.broadcast(&done, sizeof(done), 0);
  if (done != 0) {
    describe_published(options, out, result);
    return remove_folder(assembly, ranks);
  }
  const StagedOutput staged(out);
  staged.begin(ranks, /*resumed=*/false);
  for (QuantizeResult::Output& output : result.outputs) {
    const fs::path unified = output.dir;
    const fs::path folder =
        (staged.partial() / unified.lexically_relative(assembly)).lexically_normal();
    const std::string unified_digest = output.digest;
    output.dir = published_folder(options, out, output);
    output.bytes = reshard(options, unified, folder, cluster);
    output.digest = digest_on_all(folder, ranks);
    if (ranks.rank() != 0) continue;
    Json summary = read_json_file(unified / "summary.json");
    summary["dir"] = output.dir.string();
    summary["digest"] = output.digest;
    summary["bytes"] = output.bytes;
    summary["layout"] = layout_json(options, unified_digest);
    write_text_file(folder / "summary.json", summary.dump(2) + "\n");
    sync_directory(folder);
  }
  ranks.barrier();
  staged.publish(ranks, options.get_flag("overwrite"));
  remove_folder(assembly, ranks);
}

void convert_checkpoint(const Options& options, const World& world) {
  const fs::path model_dir = without_trailing_slash(options.required("model"));
  const fs::path out = without_trailing_slash(options.required("out"));
  parallelism(options);
  const RunSetup setup(options, world);
  const Cluster& cluster = setup.cluster();
  const bool back = is_trtllm(model_dir);
  if (back && wants_trtllm(options)) {
    throw UsageError(concat("'", model_dir.string(), "' has TensorRT-LLM's layout already: make ",
                            "the unified checkpoint with --target hf first"));
  }
  if (back) {
    require_sidecar(model_dir);
  } else {
    const Checkpoint checkpoint(model_dir);
    require_same_model(checkpoint, cluster);
    if (!is_quantized(checkpoint)) {
      throw UsageError(concat("'", model_dir.string(),
                              "' is not quantized: give a checkpoint that ",
                              "halftone quantize wrote, or --store FILE.h5 and --format"));
    }
    if (!wants_trtllm(options)) {
      throw UsageError(concat("'", model_dir.string(), "' is a unified checkpoint already: choose ",
                              "--target trtllm"));
    }
    const ReadUnified read(options, model_dir);
    check_trtllm(read.form(), parallelism(options));
    const ReshardPlan plan = plan_trtllm(read.form(), parallelism(options));
    check_equal_scales(plan, read.checkpoint(), cluster.control);
  }
  check_output(out, model_dir, options.get_flag("overwrite"));
  make_parent(out, setup.speaks(), cluster.control);
  check_shared_folder(out.parent_path(), seat_of(world, cluster.control), cluster.control, "--out");
  const StagedOutput staged(out);
  staged.begin(cluster.control, /*resumed=*/false);
  int64_t bytes = 0;
  try {
    bytes = back ? restore(options, model_dir, staged.partial(), cluster)
                 : reshard(options, model_dir, staged.partial(), cluster);
  } catch (const Error&) {
    remove_folder(staged.partial(), cluster.control);
    throw;
  }
  const std::string digest = digest_on_all(staged.partial(), cluster.control);
  staged.publish(cluster.control, options.get_flag("overwrite"));
  if (setup.speaks()) print_conversion(options, out, digest, bytes);
}

}  // namespace halftone
