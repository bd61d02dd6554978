#include "app/library_layout.h"

#include <cstdio>

#include "app/assembled_output.h"
#include "app/quantize_run.h"
#include "app/run_setup.h"
#include "app/trtllm.h"
#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"
#include "dist/preflight.h"
#include "engine/library_export.h"
#include "engine/weight_source.h"
#include "export/staged_output.h"
#include "export/trtllm_export.h"
#include "model/family.h"

namespace halftone {
namespace {

// What the summary says of how the output was made.
Json layout_json(const Options& options) {
  return {{"target", options.get("target")}};
}

std::string digest_on_all(const fs::path& folder, Communicator& ranks) {
  return broadcast_text(ranks, ranks.rank() == 0 ? digest_of_directory(folder) : "", 0);
}

// Writes the unified checkpoint `from` into a folder that is not published yet; the bytes of the
// tensors.
int64_t convert(const Options& options, const fs::path& from, const fs::path& folder,
                const Cluster& cluster) {
  const Checkpoint unified(from);
  const std::unique_ptr<Model> model = make_model(unified, options.get("family"));
  const LibraryExport library(*wanted_library(options), unified, *model,
                              options.get_integer("max-shard-size"));
  library.write(folder, cluster);
  return library.bytes();
}

// Refuses what cannot be converted, by the headers alone.
void check_source(const Options& options, const fs::path& source, const Cluster& cluster) {
  if (is_trtllm(source)) {
    throw UsageError(concat("'", source.string(), "' has TensorRT-LLM's layout: make the unified ",
                            "checkpoint with --target hf first"));
  }
  const Checkpoint checkpoint(source);
  require_same_model(checkpoint, cluster);
  if (!is_export(checkpoint)) {
    throw UsageError(concat("'", source.string(), "' is not quantized: give a checkpoint that ",
                            "halftone quantize wrote, or --store FILE.h5 and --format"));
  }
  const std::unique_ptr<Model> model = make_model(checkpoint, options.get("family"));
  const LibraryExport planned(*wanted_library(options), checkpoint, *model,
                              options.get_integer("max-shard-size"));
}

void print_conversion(const Options& options, const fs::path& out, const std::string& digest,
                      int64_t bytes) {
  const std::string& target = options.get("target");
  if (options.get_flag("json")) {
    print_json(
        {{"outputs",
          {{{"target", target}, {"dir", out.string()}, {"digest", digest}, {"bytes", bytes}}}}});
  } else {
    std::printf("%-12s %10.2f MB  %s\n", target.c_str(), static_cast<double>(bytes) / 1e6,
                out.c_str());
  }
}

}  // namespace

const LibraryTarget* wanted_library(const Options& options) {
  return library_target(options.get("target"));
}

bool is_in_library_layout(const Options& options, const fs::path& out,
                          const QuantizeResult& result) {
  return wanted_library(options) != nullptr &&
         is_made_of(assembly_folder(options, out), out, layout_json(options), result);
}

void write_library_outputs(const Options& options, const fs::path& out, const Cluster& cluster,
                           QuantizeResult& result) {
  if (wanted_library(options) == nullptr) return;
  const fs::path assembly = assembly_folder(options, out);
  Communicator& ranks = cluster.control;
  int64_t done = ranks.rank() == 0 && is_in_library_layout(options, out, result) ? 1 : 0;
  ranks.broadcast(&done, sizeof(done), 0);
  if (done != 0) {
    describe_published(assembly, out, result);
    return discard_folder(assembly, ranks);
  }
  const StagedOutput staged(out);
  staged.begin(ranks, /*resumed=*/false);
  for (QuantizeResult::Output& output : result.outputs) {
    const fs::path unified = output.dir;
    const fs::path folder =
        (staged.partial() / unified.lexically_relative(assembly)).lexically_normal();
    const std::string unified_digest = output.digest;
    output.dir = published_folder(assembly, out, output);
    output.bytes = convert(options, unified, folder, cluster);
    output.digest = digest_on_all(folder, ranks);
    if (ranks.rank() != 0) continue;
    write_layout_summary(unified, unified_digest, layout_json(options), output, folder);
  }
  ranks.barrier();
  staged.publish(ranks, options.get_flag("overwrite"));
  discard_folder(assembly, ranks);
}

void export_to_library(const Options& options, const World& world) {
  const fs::path source = without_trailing_slash(options.required("model"));
  const fs::path out = without_trailing_slash(options.required("out"));
  parallelism(options);
  const RunSetup setup(options, world);
  const Cluster& cluster = setup.cluster();
  Communicator& ranks = cluster.control;
  check_source(options, source, cluster);
  check_output(out, source, options.get_flag("overwrite"));
  make_parent(out, setup.speaks(), ranks);
  check_shared_folder(out.parent_path(), seat_of(world, ranks), ranks, "--out");
  const StagedOutput staged(out);
  staged.begin(ranks, /*resumed=*/false);
  int64_t bytes = 0;
  try {
    bytes = convert(options, source, staged.partial(), cluster);
  } catch (const VerificationError&) {
    throw;  // what is wrong can be looked at
  } catch (const Error&) {
    discard_folder(staged.partial(), ranks);
    throw;
  }
  const std::string digest = digest_on_all(staged.partial(), ranks);
  staged.publish(ranks, options.get_flag("overwrite"));
  if (setup.speaks()) print_conversion(options, out, digest, bytes);
}

}  // namespace halftone
