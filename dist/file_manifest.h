#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "dist/communicator.h"
#include "dist/workspace.h"

namespace halftone {

// A complete file.
struct FileRecord {
  std::string name;
  int64_t bytes = 0;
  std::string sha256;
};

// Which files of a folder that several ranks fill are complete, with their lengths and checksums,
// in a workspace beside it. Every complete file has a record of its own there until the manifest
// names them all: no two ranks write one file, and a kill loses no more than a file.
class FileManifest {
 public:
  explicit FileManifest(fs::path folder) : workspace_(std::move(folder)) {}

  // Whether an interrupted run has left a manifest here: of this very work, or any. By one rank.
  bool exists() const { return workspace_.has_manifest(); }
  bool belongs_to(const Json& identity) const;
  // The digest of a folder that was about to get its name; empty: none was. By one rank.
  std::string digest() const;

  // Goes on with what was left of this very work, otherwise begins anew. Collective; `identity` and
  // the word whether it `resumes` are rank 0's.
  void begin(const Json& identity, bool resumes, Communicator& ranks);
  // Files that were complete when it began.
  std::optional<FileRecord> find(const std::string& name) const;
  // The file has its name and is on the disk. By the rank that wrote it.
  void add(const FileRecord& record) const;
  void drop(const std::string& name) const;
  // All files are complete, and their folder is about to get its name. By rank 0.
  void finish(const std::vector<FileRecord>& records, const std::string& digest) const;
  // The folder has its name. By rank 0.
  void remove() const;

 private:
  fs::path record_path(const std::string& name) const;
  std::vector<FileRecord> read_records() const;

  Workspace workspace_;
  Json identity_;
  std::vector<FileRecord> found_;
};

}  // namespace halftone
