#include "io/checkpoint.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "io/safetensors_header.h"
#include "io/shown_name.h"

namespace halftone {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

// Shard name -> the tensors that the index places there.
using Index = std::map<std::string, std::set<std::string>>;

// The index comes from outside: it must not lead out of the folder.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name.find("..") == std::string::npos &&
         name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

// What cannot be looked at counts as missing.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

Index read_index(const fs::path& path) {
  const Json root = read_json_file(path);
  const std::string source = concat("'", path.string(), "'");
  const auto map = root.is_object() ? root.find("weight_map") : root.end();
  if (map == root.end() || !map->is_object() || map->empty()) {
    throw InputError(
        concat(source, ": expected an object 'weight_map' of tensor names and files",
               map == root.end() ? ", found none" : ", found " + map->dump().substr(0, 80)));
  }
  Index index;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) {
      throw InputError(concat(source, ": tensor ", shown_name(tensor),
                              " must be given a file's name, found ", file.dump().substr(0, 80)));
    }
    const std::string name = file.get<std::string>();
    if (!is_plain_file_name(name)) {
      throw InputError(concat(source, ": tensor ", shown_name(tensor), " is placed in ",
                              shown_name(name),
                              "; expected the plain name of a file in the same folder"));
    }
    index[name].insert(tensor);
  }
  return index;
}

void check_shard(const SafetensorsFile& shard, const std::string& file_name, const Index& index,
                 const fs::path& index_path) {
  const std::string source = concat("'", index_path.string(), "'");
  const std::set<std::string>& placed = index.at(file_name);
  for (const std::string& tensor : placed) {
    if (!shard.tensors().contains(tensor)) {
      throw InputError(concat(source, ": tensor ", shown_name(tensor), " is expected in '",
                              file_name, "', which does not hold it"));
    }
  }
  for (const auto& [tensor, info] : shard.tensors()) {
    if (placed.contains(tensor)) continue;
    for (const auto& [other, names] : index) {
      if (names.contains(tensor)) {
        throw InputError(concat(source, ": tensor ", shown_name(tensor), " is placed in '", other,
                                "' but also found in '", file_name, "'"));
      }
    }
    throw InputError(concat(source, ": tensor ", shown_name(tensor), " of '", file_name,
                            "' is not named by the index"));
  }
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& directory) : directory_(directory) {
  if (std::error_code error; !fs::is_directory(directory, error)) {
    throw InputError(
        concat("'", directory.string(), "' is not a folder; expected a Hugging Face checkpoint"));
  }
  config_ = read_json_file(directory / "config.json");
  if (!config_.is_object()) {
    throw InputError(concat("'", (directory / "config.json").string(),
                            "': expected a JSON object, found ", config_.dump().substr(0, 80)));
  }

  const fs::path single_path = directory / kSingleFile;
  const fs::path index_path = directory / kIndexFile;
  if (is_there(index_path)) {
    const Index index = read_index(index_path);
    if (is_there(single_path) && !index.contains(kSingleFile)) {
      throw InputError(concat("'", directory.string(), "' holds both ", kSingleFile, " and an ",
                              kIndexFile, " that does not name it: remove one of them"));
    }
    for (const auto& [file_name, tensors] : index) {
      if (!is_there(directory / file_name)) {
        throw InputError(concat("'", (directory / file_name).string(), "' is missing; ", kIndexFile,
                                " places ", tensors.size(), " tensors there, e.g. ",
                                shown_name(*tensors.begin())));
      }
      shards_.push_back(std::make_unique<SafetensorsFile>(directory / file_name));
      check_shard(*shards_.back(), file_name, index, index_path);
    }
  } else if (is_there(single_path)) {
    shards_.push_back(std::make_unique<SafetensorsFile>(single_path));
  } else {
    throw InputError(concat("'", directory.string(), "' holds neither ", kSingleFile, " nor ",
                            kIndexFile, "; expected a Hugging Face checkpoint in safetensors"));
  }

  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    for (const auto& [name, info] : shards_[shard]->tensors()) {
      places_.emplace(name, Place{shard, &info});
    }
  }
  for (const auto& [name, place] : places_) names_.push_back(name);
  // What memory could not keep until it is read again need not go through the page cache.
  if (total_bytes() > available_host_bytes() / 4) {
    for (const auto& shard : shards_) shard->bypass_cache();
  }
}

bool Checkpoint::has(const std::string& name) const {
  return places_.contains(name);
}

const Checkpoint::Place& Checkpoint::place_of(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) {
    throw InputError(
        concat("the tensor ", shown_name(name), " is missing in '", directory_.string(), "'"));
  }
  return found->second;
}

const TensorInfo& Checkpoint::info(const std::string& name) const {
  return *place_of(name).info;
}

const fs::path& Checkpoint::file_of(const std::string& name) const {
  return shards_[place_of(name).shard]->path();
}

void Checkpoint::read(const std::string& name, int64_t begin, int64_t bytes, void* data) const {
  const Place& place = place_of(name);
  shards_[place.shard]->read(*place.info, begin, bytes, data);
}

std::vector<char> Checkpoint::read_all(const std::string& name) const {
  const Place& place = place_of(name);
  return shards_[place.shard]->read_all(*place.info);
}

int64_t Checkpoint::total_bytes() const {
  int64_t total = 0;
  for (const auto& [name, place] : places_) total += place.info->bytes;
  return total;
}

std::string Checkpoint::fingerprint() const {
  Sha256 sum;
  // Names and lengths go in front, so that no two sources give the same run of bytes.
  const auto add = [&sum](const std::string& name, int64_t size, const std::string& text) {
    const std::string frame = concat(name, "\n", size, "\n", text.size(), "\n");
    sum.update(frame.data(), frame.size());
    sum.update(text.data(), text.size());
  };
  const std::string config = read_text_file(directory_ / "config.json");
  add("config.json", static_cast<int64_t>(config.size()), config);
  for (const auto& shard : shards_) {
    const File file = File::open_for_reading(shard->path());
    add(shard->path().filename().string(), file.size(), read_safetensors_header(file));
  }
  return sum.hex();
}

int64_t Checkpoint::change_time() const {
  int64_t latest = 0;
  for (const auto& shard : shards_) {
    latest = std::max(latest, halftone::change_time(shard->path()));
  }
  return latest;
}

}  // namespace halftone
