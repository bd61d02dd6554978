#include "app/trtllm.h"

#include "app/assembled_output.h"
#include "app/library_layout.h"
#include "app/quantize_run.h"
#include "app/resharding.h"
#include "core/error.h"
#include "core/log.h"
#include "export/resharded_output.h"
#include "export/trtllm_layout.h"

namespace halftone {
namespace {

// What a resharded output's summary says of how it was made.
Json layout_json(const Options& options) {
  return {{"target", options.get("target")},
          {"tp", options.get_integer("tp")},
          {"pp", options.get_integer("pp")}};
}

// Says what an output is now, and writes so into its summary.
void describe_resharded(const Options& options, const fs::path& out, const Resharding& made,
                        const ReshardedOutput& output, const Communicator& ranks,
                        QuantizeResult::Output& result) {
  const std::string unified_digest = result.digest;
  const fs::path unified = result.dir;
  result.dir = published_folder(assembly_folder(options, out), out, result);
  result.bytes = made.tensor_bytes();
  result.digest = output.digest(made.folder());
  if (ranks.rank() != 0) return;
  write_layout_summary(unified, unified_digest, layout_json(options), result,
                       output.partial() / made.folder());
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

int64_t check_layout(const Options& options, const Checkpoint& source, const Model& model,
                     const std::vector<Target>& targets) {
  int64_t bytes = 0;
  if (const LibraryTarget* library = wanted_library(options)) {
    for (const Target& target : targets) {
      check_library(*library, model, target.plan.stages);
      for (const HfLayout::OutputFile& file : target.hf.layout.files)
        bytes += file.layout.file_bytes;
    }
    return bytes;
  }
  if (!wants_trtllm(options)) return 0;
  const Parallelism parallel = parallelism(options);
  for (const Target& target : targets) {
    UnifiedForm form{family_of(options, source), model, target.plan.stages, source.config(),
                     model_dtype(source),        {}};
    for (const HfLayout::OutputFile& file : target.hf.layout.files) {
      for (const auto& [name, info] : file.layout.tensors) {
        form.tensors[name] = {name, info.dtype, info.shape};
      }
    }
    check_trtllm(form, parallel);
    const ReshardPlan plan = plan_trtllm(form, parallel);  // refuses tensors that have no place
    for (const ReshardPlan::OutputFile& file : plan.files) bytes += file.layout.file_bytes;
    for (const TensorSpec& spec : plan.rest) bytes += spec.bytes();
  }
  return bytes;
}

fs::path assembly_folder(const Options& options, const fs::path& out) {
  if (!wants_trtllm(options) && wanted_library(options) == nullptr) return out;
  return out.parent_path() / concat(".", out.filename().string(), ".unified");
}

bool is_resharded(const Options& options, const fs::path& out, const QuantizeResult& result) {
  return wants_trtllm(options) &&
         is_made_of(assembly_folder(options, out), out, layout_json(options), result);
}

void reshard_outputs(const Options& options, const fs::path& out, const Cluster& cluster,
                     QuantizeResult& result) {
  if (!wants_trtllm(options)) return;
  const fs::path assembly = assembly_folder(options, out);
  Communicator& ranks = cluster.control;
  ReshardedOutput output(out, cluster.world.node_of(), ranks);
  int64_t done = ranks.rank() == 0 && is_resharded(options, out, result) ? 1 : 0;
  ranks.broadcast(&done, sizeof(done), 0);
  if (done != 0) {
    describe_published(assembly, out, result);
    if (ranks.rank() == 0) output.clear();
    return discard_folder(assembly, ranks);
  }
  std::vector<std::unique_ptr<Resharding>> all;
  BytePlan bytes;
  for (const QuantizeResult::Output& one : result.outputs) {
    const std::string below = one.dir.lexically_relative(assembly).generic_string();
    all.push_back(std::make_unique<Resharding>(options, one.dir, below == "." ? "" : below, ranks));
    all.back()->add_to(bytes);
  }
  write_all(all, bytes, cluster, output);
  for (size_t i = 0; i < all.size(); ++i) {
    describe_resharded(options, out, *all[i], output, ranks, result.outputs[i]);
  }
  ranks.barrier();
  output.publish(options.get_flag("overwrite"));
  discard_folder(assembly, ranks);
}

}  // namespace halftone
