#pragma once

#include <optional>
#include <string>

#include "core/files.h"
#include "core/json.h"

namespace halftone {

// The folder that a run keeps what it needs in to go on after it was interrupted; every host sees
// it. manifest.json (a line of JSON and a line with
// its SHA-256) says which other files count and what they must hold; it is replaced in one
// step, so that a kill leaves the old one or the new one and files that no manifest names are
// rubbish. Rejected: a lock file (a killed run would leave it), one HDF5 file for everything (a
// kill while it is written damages what was complete).
class Workspace {
 public:
  explicit Workspace(fs::path folder) : folder_(std::move(folder)) {}

  const fs::path& folder() const { return folder_; }
  // A file of the workspace by its name in the manifest. A name that leads outside is an
  // InputError.
  fs::path path(const std::string& name) const;

  // Whether some run left one here, or is under way.
  bool has_manifest() const { return fs::exists(manifest_path()); }
  // Makes the folder. Somebody else's is a UsageError. By one rank.
  void create() const;
  // Nothing where there is none, or where it is damaged, which is logged: its own checksum tells.
  std::optional<Json> read_manifest() const;
  void write_manifest(const Json& manifest) const;
  void remove_manifest() const;

 private:
  fs::path manifest_path() const { return folder_ / "manifest.json"; }

  fs::path folder_;
};

}  // namespace halftone
