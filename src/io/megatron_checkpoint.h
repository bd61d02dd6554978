#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/chunked_tensor.h"
#include "io/file_pool.h"
#include "io/megatron_config.h"
#include "io/megatron_names.h"
#include "io/tensor_container.h"

namespace halftone {

// Where the parts of a distributed checkpoint of Megatron-core (torch_dist) or NeMo 2.0 lie.
struct MegatronFolder {
  fs::path weights;                    // .metadata and *.distcp
  std::optional<fs::path> model_yaml;  // of NeMo
  std::optional<fs::path> run_config;  // run_config.yaml of Megatron Bridge
  std::optional<fs::path> common;      // common.pt
  std::optional<fs::path> tokenizer;   // a folder
};

// The folder of one iteration, its parent with latest_checkpointed_iteration.txt, or NeMo's folder
// with weights/ and context/. nullopt: another kind of checkpoint.
std::optional<MegatronFolder> find_megatron(const fs::path& directory);

// A distributed checkpoint under the names and in the shapes of the Hugging Face model: q, k and v
// apart, gate and up apart, one tensor for each layer and expert, no padding of the vocabulary.
// Opening reads `.metadata` and the first bytes and the last of every item; weights are read in
// place. Missing files and parts, chunks that overlap or lead out of their file, a dtype that
// safetensors lacks, an entry that has no place in the model: InputErrors.
class MegatronCheckpoint : public TensorContainer {
 public:
  struct Dropped {
    std::string name;
    std::string reason;
  };

  // `config`: of the Hugging Face model, or null: made of what the folder says of the model.
  MegatronCheckpoint(const MegatronFolder& folder, Json config);

  const Json& config() const { return config_; }
  // Entries that are not part of the model, in name order.
  const std::vector<Dropped>& dropped() const { return dropped_; }

  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  const fs::path& file_of(const TensorInfo& tensor) const override;
  void read(const TensorInfo& tensor, int64_t begin, int64_t bytes, void* data) const override;
  void bypass_cache() override { files_->bypass_cache(); }
  void identify(const Identify& add) const override;
  int64_t change_time() const override;

 private:
  // A tensor of the model in bytes of a stored one.
  struct Source {
    size_t stored = 0;  // of stored_
    std::vector<ElementRun> runs;
  };

  DistMetadata read_metadata();
  void open_files(const DistMetadata& metadata);
  void add_stored(const std::string& key, const DistTensor& tensor);
  void add_tensors(const std::string& key, size_t stored, const MegatronShape& shape,
                   const std::string& source);
  void warn_of_other_files(const DistMetadata& metadata) const;

  fs::path folder_;
  Json config_;
  std::unique_ptr<FilePool> files_;
  std::map<std::string, size_t> file_index_;  // by name
  std::vector<int64_t> file_bytes_;
  std::vector<ChunkedTensor> stored_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Source> sources_;
  std::vector<Dropped> dropped_;
};

}  // namespace halftone
