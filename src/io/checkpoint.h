#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/tensor_container.h"

namespace halftone {

// A contradiction between a checkpoint's index and its files.
struct FileFault {
  // missing-file, truncated-file, index-wrong-file, index-missing-tensor, not-in-index,
  // tensor-in-two-files
  std::string rule;
  std::string tensor;  // empty: the whole file
  std::string file;    // its name in the folder
  std::string expected;
  std::string found;
  std::string text;  // of the error that it is where nobody collects faults
};

// A Hugging Face checkpoint folder: config.json, one model.safetensors or several shards behind
// model.safetensors.index.json. Opening reads the headers only. A missing shard, a tensor that the
// index places in a file which does not hold it, a tensor of a shard that the index does not name,
// one name in two shards, a shard name with a '/' or '..': InputErrors.
// Or a distributed checkpoint of Megatron-core or NeMo (megatron_checkpoint.h), which then looks
// the same.
class Checkpoint {
 public:
  // `source_config`: a folder whose config.json and other files stand for those beside the weights;
  // empty: none.
  explicit Checkpoint(const fs::path& directory, const fs::path& source_config = {});
  // The same for one who wants to know all faults of its files: they are added to `faults` instead
  // of thrown, and the checkpoint holds what could be opened. Other bad input is still an
  // InputError.
  Checkpoint(const fs::path& directory, std::vector<FileFault>& faults);

  const fs::path& directory() const { return directory_; }
  const Json& config() const { return config_; }
  // What to call the configuration in messages: its file's path, or whose it is.
  std::string config_source() const;
  // The folder of the tokenizer and all other files that are no weights; nullopt: there are none.
  const std::optional<fs::path>& files() const { return files_; }
  // Entries that are no tensors of a model, and why.
  struct Dropped {
    std::string name;
    std::string reason;
  };
  const std::vector<Dropped>& dropped() const { return dropped_; }
  // All tensors in name order.
  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) const;
  // Throws InputError naming the folder when the tensor is missing.
  const TensorInfo& info(const std::string& name) const;
  const fs::path& file_of(const std::string& name) const;
  void read(const std::string& name, int64_t begin, int64_t bytes, void* data) const;
  std::vector<char> read_all(const std::string& name) const;
  int64_t total_bytes() const;
  // SHA-256 over config.json's bytes and every shard's name, size and header: identifies a source
  // without reading its weights.
  std::string fingerprint() const;
  // When one of the shards was changed last, in nanoseconds: the fingerprint does not tell whether
  // weights were replaced by others of the same shapes.
  int64_t change_time() const;

 private:
  struct Place {
    size_t shard;
    const TensorInfo* info;
  };
  using OnFault = std::function<void(FileFault)>;
  Checkpoint(const fs::path& directory, const fs::path& source_config, bool collects,
             const OnFault& on_fault);
  void open_distributed(const struct MegatronFolder& folder, bool has_config);
  void open_safetensors(bool collects, const OnFault& on_fault);
  void open_index(bool collects, const OnFault& on_fault);
  void open_file(const fs::path& path, bool collects, const OnFault& on_fault);
  const Place& place_of(const std::string& name) const;

  fs::path directory_;
  std::optional<fs::path> files_;
  fs::path config_path_;  // empty: the configuration was made of what the weights' folder says
  Json config_;
  std::vector<std::unique_ptr<TensorContainer>> shards_;
  std::vector<Dropped> dropped_;
  std::map<std::string, Place> places_;
  std::vector<std::string> names_;
};

}  // namespace halftone
