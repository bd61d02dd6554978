#include "io/checkpoint.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "io/megatron_checkpoint.h"
#include "io/safetensors_container.h"
#include "io/shown_name.h"

namespace halftone {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

// Shard name -> the tensors that the index places there.
using Index = std::map<std::string, std::set<std::string>>;

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

// The files that hold each tensor, by their names in the folder.
using Holders = std::map<std::string, std::vector<std::string>>;

void check_index(const Index& index, const Holders& holders,
                 const std::set<std::string>& unreadable, const fs::path& index_path,
                 const std::function<void(FileFault)>& on_fault) {
  const std::string source = concat("'", index_path.string(), "'");
  std::set<std::string> placed;
  for (const auto& [file, tensors] : index) {
    placed.insert(tensors.begin(), tensors.end());
    if (unreadable.contains(file)) continue;
    for (const std::string& tensor : tensors) {
      const auto found = holders.find(tensor);
      const bool held = found != holders.end();
      if (held &&
          std::find(found->second.begin(), found->second.end(), file) != found->second.end()) {
        continue;
      }
      on_fault({held ? "index-wrong-file" : "index-missing-tensor", tensor, file,
                "in the file that the index names",
                held ? concat("in '", found->second.front(), "'") : "in no file",
                concat(source, ": tensor ", shown_name(tensor), " is expected in '", file,
                       "', which does not hold it")});
    }
  }
  const auto is_placed_in = [&](const std::string& file, const std::string& tensor) {
    return index.at(file).contains(tensor);
  };
  for (const auto& [tensor, files] : holders) {
    for (const std::string& file : files) {
      if (is_placed_in(file, tensor)) continue;
      if (!placed.contains(tensor)) {
        on_fault({"not-in-index", tensor, file, "named by the index", "not named",
                  concat(source, ": tensor ", shown_name(tensor), " of '", file,
                         "' is not named by the index")});
      } else if (files.size() > 1) {
        const std::string& other = files.front() == file ? files[1] : files.front();
        on_fault({"tensor-in-two-files", tensor, file, "in one file",
                  concat("in '", other, "' too"),
                  concat(source, ": tensor ", shown_name(tensor), " is placed in '", other,
                         "' but also found in '", file, "'")});
      }
    }
  }
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& directory, const fs::path& source_config)
    : Checkpoint(directory, source_config, false,
                 [](const FileFault& fault) { throw InputError(fault.text); }) {}

Checkpoint::Checkpoint(const fs::path& directory, std::vector<FileFault>& faults)
    : Checkpoint(directory, {}, true,
                 [&](FileFault fault) { faults.push_back(std::move(fault)); }) {}

Checkpoint::Checkpoint(const fs::path& directory, const fs::path& source_config, bool collects,
                       const OnFault& on_fault)
    : directory_(directory) {
  if (std::error_code error; !fs::is_directory(directory, error)) {
    throw InputError(
        concat("'", directory.string(), "' is not a folder; expected a Hugging Face checkpoint"));
  }
  const std::optional<MegatronFolder> distributed = find_megatron(directory);
  if (!source_config.empty() || !distributed) {
    files_ = source_config.empty() ? directory : source_config;
    config_path_ = *files_ / "config.json";
    config_ = read_json_file(config_path_);
    if (!config_.is_object()) {
      throw InputError(concat("'", config_path_.string(), "': expected a JSON object, found ",
                              config_.dump().substr(0, 80)));
    }
  }
  if (distributed) {
    open_distributed(*distributed, !config_path_.empty());
  } else {
    open_safetensors(collects, on_fault);
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

// Weights of a training run are never quantized, whatever the configuration beside them says.
void Checkpoint::open_distributed(const MegatronFolder& folder, bool has_config) {
  if (has_config && config_.erase("quantization_config") > 0) {
    log_warn("'", config_path_.string(), "': quantization_config is left out of account: '",
             directory_.string(), "' holds weights as they were trained");
  }
  auto weights = std::make_unique<MegatronCheckpoint>(folder, has_config ? config_ : Json());
  if (!has_config) {
    config_ = weights->config();
    files_ = folder.tokenizer;
  }
  for (const auto& [name, reason] : weights->dropped()) dropped_.push_back({name, reason});
  shards_.push_back(std::move(weights));
}

void Checkpoint::open_safetensors(bool collects, const OnFault& on_fault) {
  const fs::path single_path = directory_ / kSingleFile;
  if (is_there(directory_ / kIndexFile)) {
    open_index(collects, on_fault);
  } else if (is_there(single_path)) {
    open_file(single_path, collects, on_fault);
  } else {
    throw InputError(concat("'", directory_.string(), "' holds neither ", kSingleFile, " nor ",
                            kIndexFile, "; expected a Hugging Face checkpoint in safetensors"));
  }
}

void Checkpoint::open_index(bool collects, const OnFault& on_fault) {
  const fs::path index_path = directory_ / kIndexFile;
  const Index index = read_index(index_path);
  if (is_there(directory_ / kSingleFile) && !index.contains(kSingleFile)) {
    throw InputError(concat("'", directory_.string(), "' holds both ", kSingleFile, " and an ",
                            kIndexFile, " that does not name it: remove one of them"));
  }
  Holders holders;
  std::set<std::string> unreadable;
  for (const auto& [file_name, tensors] : index) {
    const size_t opened = shards_.size();
    if (is_there(directory_ / file_name)) {
      open_file(directory_ / file_name, collects, on_fault);
    } else {
      on_fault(
          {"missing-file",
           {},
           file_name,
           concat("a file with ", tensors.size(), " tensors, as the index says"),
           "no such file",
           concat("'", (directory_ / file_name).string(), "' is missing; ", kIndexFile, " places ",
                  tensors.size(), " tensors there, e.g. ", shown_name(*tensors.begin()))});
    }
    if (shards_.size() == opened) {
      unreadable.insert(file_name);
      continue;
    }
    for (const auto& [tensor, info] : shards_.back()->tensors()) {
      holders[tensor].push_back(file_name);
    }
  }
  check_index(index, holders, unreadable, index_path, on_fault);
}

void Checkpoint::open_file(const fs::path& path, bool collects, const OnFault& on_fault) {
  if (collects) {
    const File file = File::open_for_reading(path);
    const int64_t announced = announced_bytes(file);
    if (file.size() < announced) {
      on_fault({"truncated-file",
                {},
                path.filename().string(),
                concat(announced, " bytes, as its header says"),
                concat(file.size(), " bytes"),
                {}});
      return;
    }
  }
  shards_.push_back(std::make_unique<SafetensorsContainer>(path));
}

std::string Checkpoint::config_source() const {
  if (!config_path_.empty()) return config_path_.string();
  return concat("the configuration of '", directory_.string(), "'");
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
  const Place& place = place_of(name);
  return shards_[place.shard]->file_of(*place.info);
}

void Checkpoint::read(const std::string& name, int64_t begin, int64_t bytes, void* data) const {
  const Place& place = place_of(name);
  shards_[place.shard]->read(*place.info, begin, bytes, data);
}

std::vector<char> Checkpoint::read_all(const std::string& name) const {
  const Place& place = place_of(name);
  std::vector<char> data(static_cast<size_t>(place.info->bytes));
  shards_[place.shard]->read(*place.info, 0, place.info->bytes, data.data());
  return data;
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
  const std::string config = config_path_.empty() ? config_.dump() : read_text_file(config_path_);
  add("config.json", static_cast<int64_t>(config.size()), config);
  for (const auto& shard : shards_) shard->identify(add);
  return sum.hex();
}

int64_t Checkpoint::change_time() const {
  int64_t latest = 0;
  for (const auto& shard : shards_) {
    latest = std::max(latest, shard->change_time());
  }
  return latest;
}

}  // namespace halftone
