#include "app/verify_trtllm.h"

#include <stdlib.h>

#include <cerrno>

#include "app/read_unified.h"
#include "core/error.h"
#include "core/log.h"
#include "dist/agreement.h"
#include "dist/byte_gather.h"
#include "dist/preflight.h"
#include "dist/reshard.h"
#include "engine/check_rank_files.h"
#include "engine/weight_source.h"
#include "export/check_trtllm.h"
#include "export/reshard.h"
#include "export/trtllm_export.h"
#include "export/trtllm_layout.h"
#include "export/unified_sidecar.h"

namespace halftone {
namespace {

void add(Findings more, Findings& findings) {
  findings.insert(findings.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
}

// Byte for byte with what the rank files make; the ranks share the reading. `headers`: of that.
// Collective.
Findings compare_unified(const Checkpoint& headers, const BytePlan& plan, const Checkpoint& other,
                         Communicator& ranks) {
  std::vector<size_t> all;
  std::map<std::string, size_t> files;
  for (size_t f = 0; f < plan.files.size(); ++f) {
    all.push_back(f);
    files[plan.files[f].name] = f;
  }
  const ByteGatherer gatherer(plan, all);
  Json mine = Json::array();
  const auto add = [&](const std::string& tensor, const std::string& expected,
                       const std::string& found) {
    mine.push_back(to_json(Finding{"differs-from-unified", tensor, {}, expected, found}));
  };
  const std::vector<std::string>& names = headers.names();
  for (size_t i = 0; i < names.size(); ++i) {
    if (i % static_cast<size_t>(ranks.size()) != static_cast<size_t>(ranks.rank())) continue;
    const TensorInfo& info = headers.info(names[i]);
    if (!other.has(names[i])) {
      add(names[i], "a tensor of the unified checkpoint", "one that it does not have");
      continue;
    }
    const TensorInfo& expected = other.info(names[i]);
    if (expected.dtype != info.dtype || expected.shape != info.shape) {
      add(names[i], concat(name_of(expected.dtype), " ", shape_text(expected.shape)),
          concat(name_of(info.dtype), " ", shape_text(info.shape)));
      continue;
    }
    std::vector<char> bytes(static_cast<size_t>(info.bytes));
    const size_t file = files.at(headers.file_of(names[i]).filename().string());
    gatherer.gather(file, info.offset, info.offset + info.bytes, bytes.data());
    if (bytes != other.read_all(names[i])) {
      add(names[i], "the bytes of the unified checkpoint", "others");
    }
  }
  if (ranks.rank() == 0) {
    for (const std::string& name : other.names()) {
      if (!headers.has(name)) add(name, "a tensor of the unified checkpoint", "none");
    }
  }
  Findings findings;
  for (const std::string& text : gather_texts(ranks, mine.dump())) {
    for (const Json& one : Json::parse(text)) findings.push_back(finding_of(one));
  }
  return findings;
}

// The unified checkpoint itself, in a folder that goes with the object. Collective.
class RestoredUnified {
 public:
  RestoredUnified(const BytePlan& plan, const fs::path& sidecar, const fs::path& workspace,
                  const RunSetup& setup)
      : ranks_(setup.cluster().control) {
    const World& world = setup.cluster().world;
    folder_ = broadcast_text(ranks_, setup.speaks() ? make_folder(workspace).string() : "", 0);
    try {
      check_shared_folder(folder_, seat_of(world, ranks_), ranks_, "--workspace");
      FileManifest manifest(folder_ / "manifest");
      manifest.begin({}, /*resumes=*/false, ranks_);
      if (setup.speaks()) fs::create_directory(folder_ / "unified");
      ranks_.barrier();
      reshard(plan, unified(), manifest, world.node_of(), ranks_);
      if (setup.speaks()) restore_plain_files(sidecar, unified());
    } catch (...) {
      remove();
      throw;
    }
    ranks_.barrier();
  }
  ~RestoredUnified() { remove(); }
  RestoredUnified(const RestoredUnified&) = delete;
  RestoredUnified& operator=(const RestoredUnified&) = delete;

  fs::path unified() const { return folder_ / "unified"; }

 private:
  static fs::path make_folder(const fs::path& workspace) {
    std::string name = (workspace / "halftone-verify-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) return name;
    throw ResourceError(
        concat("cannot create '", name, "': ", errno_text(errno), " (choose another --workspace)"));
  }
  void remove() const {
    std::error_code ignored;
    if (ranks_.rank() == 0) fs::remove_all(folder_, ignored);
  }

  Communicator& ranks_;
  fs::path folder_;
};

// The engines that do not read rank files, and what the one that does asks for.
void check_engines(const Options& options, const ReadUnified& read, const Parallelism& parallel,
                   Findings& findings) {
  for (const Engine engine : engines_of(options.get("engine"))) {
    if (engine == Engine::kTrtllm) {
      add(check_trtllm_engine(read.form(), parallel), findings);
    } else {
      findings.push_back({"engine-format",
                          {},
                          {},
                          concat("for ", name_of(engine), " a Hugging Face checkpoint"),
                          "TensorRT-LLM's rank files (halftone export --target hf makes one)"});
    }
  }
}

ReshardPlan plan_of(const ReadUnified& read, const Parallelism& parallel, Findings& findings) {
  try {
    check_trtllm(read.form(), parallel);
    return plan_trtllm(read.form(), parallel);
  } catch (const UsageError& error) {
    findings.push_back(
        {"config-disagrees",
         {},
         "config.json",
         "a mapping that the model can be split by",
         concat("tp_size ", parallel.tp, ", pp_size ", parallel.pp, ": ", error.what())});
    return {};
  }
}

void require_sidecar(const fs::path& folder) {
  if (fs::is_directory(folder / kUnifiedFolder)) return;
  throw InputError(concat("'", folder.string(), "' has no folder '", kUnifiedFolder,
                          "', which halftone writes beside rank files: without it nobody knows ",
                          "which tensors they must hold"));
}

}  // namespace

VerifyResult verify_trtllm(const Options& options, const fs::path& folder, const RunSetup& setup,
                           const VerifyContents& contents) {
  require_sidecar(folder);
  const Cluster& cluster = setup.cluster();
  const fs::path sidecar = folder / kUnifiedFolder;
  const Parallelism parallel = parallelism_of(folder);
  const UnifiedSkeleton skeleton(sidecar);
  const ReadUnified read(options, skeleton.folder());
  VerifyResult result;
  Findings& findings = result.report.findings;
  const ReshardPlan plan = plan_of(read, parallel, findings);
  if (findings.empty()) {
    findings = check_rank_headers(plan, folder, sidecar / kRestFile);
    add(check_trtllm_configs(read.form(), parallel, folder), findings);
    check_engines(options, read, parallel, findings);
  }
  for (const ReshardPlan::OutputFile& file : plan.files) {
    result.tensors += std::ssize(file.layout.tensors);
    result.bytes += file.layout.file_bytes;
  }
  const bool whole = std::none_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.rule == "config-disagrees" || finding.rule.find("file") != std::string::npos ||
           finding.rule.find("-tensor") != std::string::npos || finding.rule.starts_with("wrong-");
  });
  if (!whole) {
    if (setup.speaks()) log_warn("the numbers are not looked at before this is mended");
    return result;
  }
  add(check_rank_values(plan, folder, kept_sums(sidecar), cluster), findings);
  const BytePlan back = plan_unified(plan, folder, sidecar / kRestFile, read.checkpoint());
  bool deeper = options.given("calib");
  if (options.given("against")) {
    const Checkpoint other(options.get("against"));
    require_same_model(other, cluster);
    if (is_quantized(other)) {
      add(compare_unified(read.checkpoint(), back, other, cluster.control), findings);
    } else {
      deeper = true;
    }
  }
  if (!deeper) return result;
  const fs::path workspace =
      options.given("workspace") ? fs::path(options.get("workspace")) : fs::temp_directory_path();
  const RestoredUnified restored(back, sidecar, workspace, setup);
  const Checkpoint unified(restored.unified());
  contents(unified, result);
  cluster.control.barrier();
  return result;
}

}  // namespace halftone
