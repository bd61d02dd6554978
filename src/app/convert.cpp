#include "app/convert.h"

#include <cstdio>
#include <functional>

#include "app/quantize_run.h"
#include "app/resharding.h"
#include "app/run_setup.h"
#include "app/trtllm.h"
#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "core/stop_signal.h"
#include "dist/preflight.h"
#include "engine/weight_source.h"
#include "export/check_trtllm.h"
#include "export/reshard.h"
#include "export/stored_quantization.h"
#include "export/trtllm_export.h"
#include "export/trtllm_layout.h"
#include "export/unified_sidecar.h"

namespace halftone {
namespace {

// What a conversion writes and how.
struct Conversion {
  BytePlan bytes;
  int64_t tensor_bytes = 0;
  std::function<void(ReshardedOutput& output)> write;
};

void require_convertible(const Checkpoint& checkpoint) {
  const std::string name = checkpoint.directory().string();
  if (is_library_layout(checkpoint)) {
    throw UsageError(concat("'", name, "' has another library's layout: export the unified ",
                            "checkpoint that it was made of, or --store FILE.h5"));
  }
  if (is_quantized(checkpoint)) return;
  throw UsageError(concat("'", name,
                          "' is not quantized: give a checkpoint that halftone quantize ",
                          "wrote, or --store FILE.h5 and --format"));
}

Conversion to_rank_files(const Options& options, const fs::path& source, const Cluster& cluster) {
  const Checkpoint checkpoint(source);
  require_same_model(checkpoint, cluster);
  require_convertible(checkpoint);
  if (!wants_trtllm(options)) {
    throw UsageError(concat("'", source.string(), "' is a unified checkpoint already: choose ",
                            "--target trtllm"));
  }
  const auto all = std::make_shared<std::vector<std::unique_ptr<Resharding>>>();
  all->push_back(std::make_unique<Resharding>(options, source, "", cluster.control));
  Conversion conversion;
  all->front()->add_to(conversion.bytes);
  conversion.tensor_bytes = all->front()->tensor_bytes();
  conversion.write = [all, &cluster, bytes = conversion.bytes](ReshardedOutput& output) {
    write_all(*all, bytes, cluster, output);
  };
  return conversion;
}

void require_sidecar(const fs::path& source) {
  if (fs::is_directory(source / kUnifiedFolder)) return;
  throw InputError(concat("'", source.string(), "' has no folder '", kUnifiedFolder,
                          "', which halftone writes beside rank files and needs for the way back: "
                          "export the original checkpoint instead"));
}

Conversion to_unified(const Options& options, const fs::path& source, const Cluster& cluster) {
  if (wants_trtllm(options)) {
    throw UsageError(concat("'", source.string(), "' has TensorRT-LLM's layout already: make ",
                            "the unified checkpoint with --target hf first"));
  }
  require_sidecar(source);
  const Parallelism parallel = parallelism_of(source);
  const fs::path sidecar = source / kUnifiedFolder;
  const UnifiedSkeleton skeleton(sidecar);
  const ReadUnified read(options, skeleton.folder());
  check_trtllm(read.form(), parallel);
  const ReshardPlan plan = plan_trtllm(read.form(), parallel);
  const Findings faults = check_rank_headers(plan, source, sidecar / kRestFile);
  if (!faults.empty()) {
    throw InputError(concat("'", source.string(), "': ", text_of(faults.front())));
  }
  Conversion conversion;
  conversion.bytes = plan_unified(plan, source, sidecar / kRestFile, read.checkpoint());
  conversion.tensor_bytes = read.checkpoint().total_bytes();
  conversion.write = [sidecar, &cluster, bytes = conversion.bytes](ReshardedOutput& output) {
    cluster.world.activity().begin_stage("export");
    cluster.world.activity().begin_step("reshard");
    output.write(bytes, [] {});
    if (cluster.control.rank() == 0) restore_plain_files(sidecar, output.partial());
    cluster.control.barrier();
  };
  return conversion;
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

void convert_checkpoint(const Options& options, const World& world) {
  const fs::path source = without_trailing_slash(options.required("model"));
  const fs::path out = without_trailing_slash(options.required("out"));
  parallelism(options);
  install_stop_signals();
  const RunSetup setup(options, world);
  const Cluster& cluster = setup.cluster();
  Communicator& ranks = cluster.control;
  make_parent(out, setup.speaks(), ranks);
  check_shared_folder(out.parent_path(), seat_of(world, ranks), ranks, "--out");
  const Conversion conversion = is_trtllm(source) ? to_unified(options, source, cluster)
                                                  : to_rank_files(options, source, cluster);
  ReshardedOutput output(out, world.node_of(), ranks);
  if (output.is_published(conversion.bytes)) {
    if (setup.speaks()) {
      log_info("an earlier run of this command is complete: nothing is left to do");
      print_conversion(options, out, digest_of_directory(out), conversion.tensor_bytes);
    }
    return;
  }
  if (setup.speaks()) check_output(out, source, options.get_flag("overwrite"));
  ranks.barrier();
  conversion.write(output);
  const std::string digest = output.publish(options.get_flag("overwrite"));
  if (setup.speaks()) print_conversion(options, out, digest, conversion.tensor_bytes);
}

}  // namespace halftone
