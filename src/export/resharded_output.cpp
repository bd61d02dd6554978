#include "export/resharded_output.h"

#include <map>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"
#include "dist/reshard.h"

namespace halftone {
namespace {

fs::path manifest_folder(const fs::path& out) {
  return out.parent_path() / concat(".", out.filename().string(), ".manifest");
}

}  // namespace

ReshardedOutput::ReshardedOutput(const fs::path& out, const std::vector<int>& node_of,
                                 Communicator& ranks)
    : out_(out), node_of_(node_of), ranks_(ranks), staged_(out), manifest_(manifest_folder(out)) {}

Json ReshardedOutput::identity(const BytePlan& plan) const {
  return {{"halftone version", HALFTONE_VERSION}, {"plan", fingerprint_of(plan)}};
}

bool ReshardedOutput::is_published(const BytePlan& plan) {
  int64_t published = 0;
  if (leads() && manifest_.exists() && fs::exists(out_)) {
    const std::string digest = manifest_.digest();
    if (!digest.empty() && manifest_.belongs_to(identity(plan)) &&
        digest_of_directory(out_) == digest) {
      published = 1;
      clear();
    }
  }
  ranks_.broadcast(&published, sizeof(published), 0);
  return published != 0;
}

void ReshardedOutput::clear() const {
  staged_.clear();
  manifest_.remove();
}

void ReshardedOutput::write(const BytePlan& plan, const std::function<void()>& make_folders) {
  Json identity;
  int64_t resumes = 0;
  if (leads()) {
    identity = this->identity(plan);
    resumes = manifest_.exists() && manifest_.belongs_to(identity) ? 1 : 0;
    log_info(resumes != 0 ? "goes on with what an interrupted run left in '" : "assembled in '",
             partial().string(), "': if this run is interrupted, the same command goes on");
  }
  ranks_.broadcast(&resumes, sizeof(resumes), 0);
  staged_.begin(ranks_, resumes != 0);
  if (leads()) make_folders();
  manifest_.begin(identity, resumes != 0, ranks_);
  try {
    records_ = reshard(plan, partial(), manifest_, node_of_, ranks_);
  } catch (const Error&) {
    log_warn("'", partial().string(), "' and '", manifest_folder(out_).string(),
             "' keep the files that are complete: the same command goes on with them");
    throw;
  }
}

std::vector<FileRecord> ReshardedOutput::records_below(const std::string& folder) const {
  const std::string prefix = folder.empty() ? "" : folder + "/";
  std::vector<FileRecord> records;
  for (const FileRecord& record : records_) {
    if (!record.name.starts_with(prefix)) continue;
    records.push_back({record.name.substr(prefix.size()), record.bytes, record.sha256});
  }
  return records;
}

std::string ReshardedOutput::digest(const std::string& folder) const {
  std::string digest;
  if (leads()) {
    std::map<std::string, std::string> sums;
    for (const FileRecord& record : records_below(folder)) sums[record.name] = record.sha256;
    digest = digest_of_directory(partial() / folder, sums);
  }
  return broadcast_text(ranks_, digest, 0);
}

std::string ReshardedOutput::publish(bool overwrite) {
  const std::string whole = digest("");
  if (leads()) manifest_.finish(records_, whole);
  staged_.publish(ranks_, overwrite);
  if (leads()) manifest_.remove();
  ranks_.barrier();
  return whole;
}

}  // namespace halftone
