#include "app/resharding.h"

#include "app/trtllm.h"
#include "core/log.h"
#include "export/reshard.h"
#include "export/trtllm_export.h"
#include "export/trtllm_layout.h"
#include "export/unified_sidecar.h"

namespace halftone {

Resharding::Resharding(const Options& options, const fs::path& unified, std::string folder,
                       Communicator& ranks)
    : folder_(std::move(folder)), read_(options, unified), parallel_(parallelism(options)) {
  check_trtllm(read_.form(), parallel_);
  plan_ = plan_trtllm(read_.form(), parallel_);
  check_equal_scales(plan_, read_.checkpoint(), ranks);
}

int64_t Resharding::tensor_bytes() const {
  int64_t bytes = 0;
  for (const ReshardPlan::OutputFile& file : plan_.files) {
    for (const auto& [name, info] : file.layout.tensors) bytes += info.bytes;
  }
  return bytes;
}

void Resharding::add_to(BytePlan& bytes) const {
  const std::string prefix = folder_.empty() ? "" : folder_ + "/";
  add_sharded(plan_, read_.checkpoint(), prefix, concat(kUnifiedFolder, "/", kRestFile), bytes);
}

void Resharding::make_folders(const ReshardedOutput& output) const {
  warn_of_dtype(read_.form());
  make_trtllm_folders(read_.form(), output.partial() / folder_);
}

void Resharding::complete(const ReshardedOutput& output) const {
  complete_trtllm(read_.form(), parallel_, read_.checkpoint(), output.records_below(folder_),
                  output.partial() / folder_);
}

void write_all(const std::vector<std::unique_ptr<Resharding>>& all, const BytePlan& bytes,
               const Cluster& cluster, ReshardedOutput& output) {
  cluster.world.activity().begin_stage("export");
  cluster.world.activity().begin_step("reshard");
  output.write(bytes, [&] {
    for (const auto& one : all) one->make_folders(output);
  });
  if (cluster.control.rank() == 0) {
    for (const auto& one : all) one->complete(output);
  }
  cluster.control.barrier();
}

}  // namespace halftone
