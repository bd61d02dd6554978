#include "export/unified_sidecar.h"

#include <set>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "io/safetensors_header.h"

namespace halftone {
namespace {

constexpr const char* kSizes = "weight_files.json";  // name -> bytes
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

void keep_unified(const Checkpoint& unified, const fs::path& folder) {
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
  sync_directory(folder);
}

void restore_plain_files(const fs::path& folder, const fs::path& to) {
  for (const std::string& name : files_in(folder)) {
    if (name == kSizes || name == kRestFile || name.ends_with(kHeader)) continue;
    copy_file_synced(folder / name, to / name);
  }
}

void make_skeleton(const fs::path& folder, const fs::path& to) {
  const Json sizes = read_json_file(folder / kSizes);
  if (!sizes.is_object() || sizes.empty()) {
    throw InputError(concat("'", (folder / kSizes).string(), "': expected an object of files"));
  }
  for (const auto& [name, bytes] : sizes.items()) make_weight_file(folder, name, bytes, to);
  restore_plain_files(folder, to);
}

}  // namespace halftone
