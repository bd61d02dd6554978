#include "export/unified_sidecar.h"

#include <stdlib.h>

#include <cerrno>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "io/safetensors_header.h"

namespace halftone {
namespace {

constexpr const char* kSizes = "weight_files.json";  // name -> bytes
constexpr const char* kSums = "rank_files.json";     // name -> bytes and SHA-256
constexpr const char* kHeader = ".header";           // behind a weight file's name

std::set<std::string> files_in(const fs::path& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_regular_file()) names.insert(entry.path().filename().string());
  }
  if (error) throw InputError(concat("cannot read '", folder.string(), "': ", error.message()));
  return names;
}

bool is_weight_file(const std::string& name) {
  return name.ends_with(".safetensors") && name.find('/') == std::string::npos && name[0] != '.';
}

// Sparse: the file takes no space before its tensors are there.
void make_weight_file(const fs::path& folder, const std::string& name, const Json& bytes,
                      const fs::path& to) {
  const fs::path header_path = folder / (name + kHeader);
  const bool plain = is_weight_file(name) && bytes.is_number_integer();
  const std::string header =
      plain ? read_text_file(header_path, kMaxHeaderBytes + kLengthBytes) : std::string();
  const auto header_bytes = static_cast<int64_t>(header.size());
  if (!plain || header_bytes < kLengthBytes || bytes.get<int64_t>() < header_bytes) {
    throw InputError(concat("'", (folder / kSizes).string(), "': expected the bytes of weight ",
                            "files, found ", bytes.dump().substr(0, 40), " for '",
                            name.substr(0, 80), "'"));
  }
  const auto size = bytes.get<int64_t>();
  // Before a file of any size is made.
  parse_safetensors_header(std::string_view(header).substr(kLengthBytes), size, header_path);
  File file = File::create(to / name);
  file.write_at(0, header.data(), header_bytes);
  file.close();
  fs::resize_file(to / name, static_cast<uintmax_t>(size));
}

}  // namespace

void keep_unified(const Checkpoint& unified, const std::vector<FileRecord>& files,
                  const fs::path& folder) {
  std::set<std::string> weights;
  for (const std::string& name : unified.names()) {
    weights.insert(unified.file_of(name).filename().string());
  }
  Json sizes = Json::object();
  for (const std::string& name : weights) {
    const fs::path path = unified.directory() / name;
    sizes[name] = File::open_for_reading(path).size();
    write_text_file(folder / (name + kHeader),
                    framed_safetensors_header(File::open_for_reading(path)));
  }
  write_text_file(folder / kSizes, sizes.dump(2) + "\n");
  for (const std::string& name : files_in(unified.directory())) {
    if (weights.count(name) > 0 || name == "summary.json") continue;
    copy_file_synced(unified.directory() / name, folder / name);
  }
  Json sums = Json::object();
  for (const FileRecord& file : files) {
    sums[file.name] = {{"bytes", file.bytes}, {"sha256", file.sha256}};
  }
  write_text_file(folder / kSums, sums.dump(2) + "\n");
  sync_directory(folder);
}

std::map<std::string, std::string> kept_sums(const fs::path& folder) {
  std::map<std::string, std::string> sums;
  const fs::path path = folder / kSums;
  if (!fs::exists(path)) return sums;
  const Json json = read_json_file(path);
  if (!json.is_object()) throw InputError("'" + path.string() + "': expected an object of files");
  for (const auto& [name, file] : json.items()) {
    sums[name] = json_member<std::string>(file, "sha256", path.string());
  }
  return sums;
}

void restore_plain_files(const fs::path& folder, const fs::path& to) {
  for (const std::string& name : files_in(folder)) {
    if (name == kSizes || name == kSums || name == kRestFile || name.ends_with(kHeader)) continue;
    copy_file_synced(folder / name, to / name);
  }
}

UnifiedSkeleton::UnifiedSkeleton(const fs::path& sidecar) {
  std::string name = (fs::temp_directory_path() / "halftone-skeleton-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw ResourceError(concat("cannot create '", name, "': ", errno_text(errno)));
  }
  folder_ = name;
  try {
    const Json sizes = read_json_file(sidecar / kSizes);
    if (!sizes.is_object() || sizes.empty()) {
      throw InputError(concat("'", (sidecar / kSizes).string(), "': expected an object of files"));
    }
    for (const auto& [file, bytes] : sizes.items()) {
      make_weight_file(sidecar, file, bytes, folder_);
    }
    restore_plain_files(sidecar, folder_);
  } catch (...) {
    remove_folder(folder_);
    throw;
  }
}

UnifiedSkeleton::~UnifiedSkeleton() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace halftone
