#include "dist/workspace.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"

namespace halftone {
namespace {

void require_own(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || info.st_uid == ::geteuid()) return;
  throw UsageError(concat("'", path.string(), "' belongs to user ", info.st_uid,
                          ", this run to user ", ::geteuid(), ": choose another --workspace"));
}

// The file's second line.
std::string seal_of(const std::string& text) {
  return "\n" + sha256_of_bytes(text.data(), text.size()) + "\n";
}

}  // namespace

fs::path Workspace::path(const std::string& name) const {
  const fs::path relative(name);
  bool inside = !name.empty() && relative.is_relative();
  for (const fs::path& part : relative) inside = inside && part != "..";
  if (!inside) {
    throw InputError(concat("'", manifest_path().string(), "' names the file '", name,
                            "', which is not inside the workspace"));
  }
  return folder_ / relative;
}

void Workspace::create() const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    throw ResourceError(concat("cannot create '", folder_.string(), "': ", error.message(),
                               " (choose another --workspace)"));
  }
  require_own(folder_);
  require_own(manifest_path());
}

std::optional<Json> Workspace::read_manifest() const {
  const fs::path path = manifest_path();
  if (!has_manifest()) return std::nullopt;
  try {
    const std::string file = read_text_file(path);
    const size_t end = file.size() < 2 ? file.npos : file.rfind('\n', file.size() - 2);
    const std::string text = file.substr(0, end);
    if (end == file.npos || file.substr(end) != seal_of(text)) {
      throw InputError(concat("'", path.string(), "' does not match its checksum"));
    }
    return parse_json(text, path.string());
  } catch (const InputError& error) {
    log_warn(error.what(), ": the workspace cannot be used, the run begins anew");
    return std::nullopt;
  }
}

void Workspace::write_manifest(const Json& manifest) const {
  const std::string text = manifest.dump();
  write_text_file(manifest_path(), text + seal_of(text));
  sync_directory(folder_);
}

void Workspace::remove_manifest() const {
  std::error_code error;
  fs::remove(manifest_path(), error);
  if (error) {
    throw ResourceError(
        concat("cannot remove '", manifest_path().string(), "': ", error.message()));
  }
  sync_directory(folder_);
}

}  // namespace halftone
