#include "io/megatron_checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <system_error>

#include "core/error.h"
#include "core/log.h"
#include "io/shown_name.h"
#include "io/torch_archive.h"
#include "kernels/check.h"

namespace halftone {
namespace {

constexpr const char* kMetadataFile = ".metadata";
constexpr const char* kEmbedding = "embedding.word_embeddings.weight";

const char* torch_name(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    case DType::kF32:
      return "float32";
    default:
      return "auto";
  }
}

// The model's configuration from whatever file of the run tells it.
Json config_of(const MegatronFolder& folder, const DistMetadata& metadata) {
  const auto embedding =
      std::find_if(metadata.tensors.begin(), metadata.tensors.end(),
                   [](const auto& entry) { return plain_key(entry.first) == kEmbedding; });
  if (embedding == metadata.tensors.end() || embedding->second.shape.empty()) {
    throw InputError(concat("'", folder.weights.string(), "' holds no tensor '", kEmbedding,
                            "': is it a checkpoint of a GPT model?"));
  }
  MegatronFields fields;
  if (folder.model_yaml) {
    fields = read_model_yaml(*folder.model_yaml, "config");
  } else if (folder.run_config) {
    fields = read_model_yaml(*folder.run_config, "model");
  } else if (folder.common) {
    fields = read_common_arguments(*folder.common);
  } else {
    throw InputError(concat("'", folder.weights.string(), "' has neither common.pt nor ",
                            "run_config.yaml: give the configuration of the Hugging Face model ",
                            "with --source-config DIR"));
  }
  const DistTensor& tensor = embedding->second;
  Json config = hf_config_of(fields, tensor.shape.front(),
                             tensor.dtype ? torch_name(*tensor.dtype) : "auto", folder.tokenizer);
  if (!folder.tokenizer && !fields.tokenizer.empty()) {
    log_info(fields.source, " names the tokenizer ", shown_name(fields.tokenizer),
             "; it is taken from the folder of --source-config, if given");
  }
  return config;
}

}  // namespace

MegatronCheckpoint::MegatronCheckpoint(const MegatronFolder& folder, Json config)
    : folder_(folder.weights), config_(std::move(config)) {
  const DistMetadata metadata = read_metadata();
  const bool given = !config_.is_null();
  if (!given) config_ = config_of(folder, metadata);
  const std::string source = concat("'", (folder_ / kMetadataFile).string(), "'");
  const MegatronShape shape = megatron_shape(
      config_, given ? "config.json of --source-config" : concat("the configuration of ", source));
  open_files(metadata);
  for (const auto& [key, tensor] : metadata.tensors) {
    add_stored(key, tensor);
    add_tensors(key, stored_.size() - 1, shape, source);
  }
  if (tensors_.empty()) throw InputError(source + ": no tensor of a model");
}

DistMetadata MegatronCheckpoint::read_metadata() {
  const auto wanted = [&](const std::string& key) {
    const std::string reason = reason_to_drop(key);
    if (!reason.empty()) dropped_.push_back({key, reason});
    return reason.empty();
  };
  DistMetadata metadata = read_dist_metadata(folder_ / kMetadataFile, wanted);
  for (const std::string& name : metadata.objects) {
    dropped_.push_back({name, "an object, not a tensor"});
  }
  std::sort(dropped_.begin(), dropped_.end(),
            [](const Dropped& a, const Dropped& b) { return a.name < b.name; });
  return metadata;
}

void MegatronCheckpoint::open_files(const DistMetadata& metadata) {
  std::map<std::string, std::pair<size_t, std::string>> used;  // chunks and a tensor in each file
  for (const auto& [key, tensor] : metadata.tensors) {
    for (const DistChunk& chunk : tensor.chunks) {
      auto& [chunks, example] = used[chunk.file];
      ++chunks;
      if (example.empty()) example = key;
    }
  }
  std::vector<fs::path> paths;
  for (const auto& [name, what] : used) {
    const fs::path path = folder_ / name;
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    if (error) {
      throw InputError(concat("'", path.string(), "' is missing; ", kMetadataFile, " places ",
                              what.first, " parts there, e.g. of ", shown_name(what.second)));
    }
    file_index_[name] = paths.size();
    paths.push_back(path);
    file_bytes_.push_back(static_cast<int64_t>(bytes));
  }
  files_ = std::make_unique<FilePool>(std::move(paths));
  warn_of_other_files(metadata);
}

// Those of another run with more ranks, over which this one was written.
void MegatronCheckpoint::warn_of_other_files(const DistMetadata& metadata) const {
  std::error_code error;
  std::set<std::string> others;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".distcp") && !metadata.files.contains(name)) others.insert(name);
  }
  if (others.empty()) return;
  log_warn("'", folder_.string(), "': ", others.size(), " files, e.g. '", *others.begin(),
           "', are not named by ", kMetadataFile, ": left there by another run?");
}

void MegatronCheckpoint::add_stored(const std::string& key, const DistTensor& tensor) {
  const std::string where = concat("'", folder_.string(), "': tensor ", shown_name(key));
  if (!tensor.dtype) {
    throw InputError(
        concat(where, ": the dtype ", shown_name(tensor.dtype_name), " is not supported"));
  }
  std::vector<ChunkedTensor::Block> blocks;
  for (const DistChunk& chunk : tensor.chunks) {
    const std::string part =
        concat(where, ": the chunk at ", shape_text(chunk.offsets), " in '", chunk.file, "'");
    const size_t file = file_index_.at(chunk.file);
    if (chunk.begin > file_bytes_[file] || chunk.length > file_bytes_[file] - chunk.begin) {
      throw InputError(concat(part, " has ", chunk.length, " bytes at ", chunk.begin,
                              ", but the file has ", file_bytes_[file],
                              " (a truncated copy, or a file of another run)"));
    }
    const SavedTensor saved =
        locate_saved_tensor(*files_->open(file), chunk.begin, chunk.length, part);
    if (saved.dtype != *tensor.dtype || saved.shape != chunk.sizes) {
      throw InputError(concat(part, " is ", name_of(saved.dtype), " ", shape_text(saved.shape),
                              "; expected ", name_of(*tensor.dtype), " ", shape_text(chunk.sizes),
                              " (a file of another run?)"));
    }
    blocks.push_back({chunk.offsets, chunk.sizes, file, saved.offset});
  }
  stored_.emplace_back(tensor.shape, *tensor.dtype, blocks, where);
}

void MegatronCheckpoint::add_tensors(const std::string& key, size_t stored,
                                     const MegatronShape& shape, const std::string& source) {
  const ChunkedTensor& tensor = stored_[stored];
  const int64_t size = size_of(tensor.dtype());
  for (MappedTensor& mapped : map_megatron_tensor(key, tensor.shape(), shape, source)) {
    TensorInfo info{mapped.name, tensor.dtype(), std::move(mapped.shape)};
    for (ElementRun& run : mapped.runs) {
      run = {run.from * size, run.to * size, run.count * size};
      info.bytes += run.count;
    }
    if (!tensors_.emplace(mapped.name, std::move(info)).second) {
      throw InputError(concat(source, ": tensor ", shown_name(key), " gives ",
                              shown_name(mapped.name), ", which another one gives too"));
    }
    sources_.emplace(mapped.name, Source{stored, std::move(mapped.runs)});
  }
}

const fs::path& MegatronCheckpoint::file_of(const TensorInfo& tensor) const {
  const Source& source = sources_.at(tensor.name);
  return files_->paths()[stored_[source.stored].file_at(source.runs.front().from)];
}

void MegatronCheckpoint::read(const TensorInfo& tensor, int64_t begin, int64_t bytes,
                              void* data) const {
  check(begin >= 0 && bytes >= 0 && begin <= tensor.bytes && bytes <= tensor.bytes - begin,
        "a read stays inside its tensor");
  const Source& source = sources_.at(tensor.name);
  const int64_t end = begin + bytes;
  const auto read_file = [&](size_t file, int64_t offset, void* to, int64_t count) {
    files_->read(file, offset, to, count);
  };
  const auto first =
      std::partition_point(source.runs.begin(), source.runs.end(),
                           [&](const ElementRun& run) { return run.to + run.count <= begin; });
  for (auto run = first; run != source.runs.end() && run->to < end; ++run) {
    const int64_t from = std::max(begin, run->to);
    const int64_t to = std::min(end, run->to + run->count);
    stored_[source.stored].read(run->from + (from - run->to), to - from,
                                static_cast<char*>(data) + (from - begin), read_file);
  }
}

void MegatronCheckpoint::identify(const Identify& add) const {
  const std::string metadata = read_text_file(folder_ / kMetadataFile);
  add(kMetadataFile, std::ssize(metadata), metadata);
  for (size_t i = 0; i < file_bytes_.size(); ++i) {
    add(files_->paths()[i].filename().string(), file_bytes_[i], {});
  }
}

int64_t MegatronCheckpoint::change_time() const {
  int64_t latest = halftone::change_time(folder_ / kMetadataFile);
  for (const fs::path& path : files_->paths()) {
    latest = std::max(latest, halftone::change_time(path));
  }
  return latest;
}

}  // namespace halftone
