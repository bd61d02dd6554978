#include "dist/file_manifest.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/agreement.h"

namespace halftone {
namespace {

constexpr const char* kSuffix = ".complete";

Json to_json(const FileRecord& record) {
  return {{"name", record.name}, {"bytes", record.bytes}, {"sha256", record.sha256}};
}

FileRecord record_of(const Json& json, const std::string& source) {
  return {json_member<std::string>(json, "name", source),
          json_member<int64_t>(json, "bytes", source),
          json_member<std::string>(json, "sha256", source)};
}

}  // namespace

bool FileManifest::belongs_to(const Json& identity) const {
  const std::optional<Json> manifest = workspace_.read_manifest();
  return manifest && manifest->value("identity", Json()) == identity;
}

std::string FileManifest::digest() const {
  const std::optional<Json> manifest = workspace_.read_manifest();
  return manifest ? manifest->value("digest", "") : "";
}

void FileManifest::begin(const Json& identity, bool resumes, Communicator& ranks) {
  identity_ = identity;
  Json records = Json::array();
  if (ranks.rank() == 0) {
    if (resumes) {
      for (const FileRecord& record : read_records()) records.push_back(to_json(record));
    } else {
      remove_folder(workspace_.folder());
      workspace_.create();
      workspace_.write_manifest({{"identity", identity}, {"files", Json::array()}});
    }
  }
  // Rank 0's: another host may still see the folder as it was.
  const std::string text = broadcast_text(ranks, records.dump(), 0);
  found_.clear();
  for (const Json& json : parse_json(text, "manifest.json")) {
    found_.push_back(record_of(json, "manifest.json"));
  }
}

std::optional<FileRecord> FileManifest::find(const std::string& name) const {
  const auto found = std::find_if(found_.begin(), found_.end(),
                                  [&](const FileRecord& record) { return record.name == name; });
  return found == found_.end() ? std::nullopt : std::optional(*found);
}

// Names may lead into folders.
fs::path FileManifest::record_path(const std::string& name) const {
  return workspace_.path(sha256_of_bytes(name.data(), name.size()).substr(0, 16) + kSuffix);
}

void FileManifest::add(const FileRecord& record) const {
  write_text_file(record_path(record.name), to_json(record).dump());
  sync_directory(workspace_.folder());
}

void FileManifest::drop(const std::string& name) const {
  std::error_code ignored;
  fs::remove(record_path(name), ignored);
}

void FileManifest::finish(const std::vector<FileRecord>& records, const std::string& digest) const {
  Json files = Json::array();
  for (const FileRecord& record : records) files.push_back(to_json(record));
  workspace_.write_manifest({{"identity", identity_}, {"files", files}, {"digest", digest}});
}

void FileManifest::remove() const {
  if (exists()) workspace_.remove_manifest();
  remove_folder(workspace_.folder());
}

// What cannot be read is not complete: the file is written once more.
std::vector<FileRecord> FileManifest::read_records() const {
  std::vector<FileRecord> records;
  for (const auto& entry : fs::directory_iterator(workspace_.folder())) {
    const std::string path = entry.path().string();
    if (!path.ends_with(kSuffix)) continue;
    try {
      records.push_back(record_of(read_json_file(path), path));
    } catch (const InputError& error) {
      log_warn(error.what(), ": the file that it speaks of is written again");
    }
  }
  return records;
}

}  // namespace halftone
