#include "export/reshard.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "export/reshard_builder.h"
#include "export/reshard_pieces.h"
#include "kernels/check.h"

namespace halftone {
namespace {

bool is_mine(size_t index, const Communicator& ranks) {
  return static_cast<int>(index % static_cast<size_t>(ranks.size())) == ranks.rank();
}

TensorSpec spec_of(const TensorInfo& info) {
  return {info.name, info.dtype, info.shape};
}

// Blocks from a tensor with gaps to one without.
void gather(const char* tensor, const RunPart& part, int64_t origin, int64_t size, char* dense) {
  for (int64_t i = 0; i < part.count; ++i) {
    const int64_t from = part.from + i * part.stride - origin;
    std::memcpy(dense + i * part.block * size, tensor + from * size,
                static_cast<size_t>(part.block * size));
  }
}

void scatter(const char* dense, const RunPart& part, int64_t origin, int64_t size, char* tensor) {
  for (int64_t i = 0; i < part.count; ++i) {
    const int64_t to = part.from + i * part.stride - origin;
    std::memcpy(tensor + to * size, dense + i * part.block * size,
                static_cast<size_t>(part.block * size));
  }
}

bool is_converted(const Move& move, DType from, DType to) {
  return move.plus_one || converts(from, to);
}

// The files of a plan that a rank writes.
class ShardedFiles {
 public:
  ShardedFiles(const ReshardPlan& plan, const fs::path& folder, const Communicator& ranks)
      : plan_(plan), files_(plan.files.size()) {
    for (size_t f = 0; f < plan.files.size(); ++f) {
      if (!is_mine(f, ranks)) continue;
      const SafetensorsLayout& layout = plan.files[f].layout;
      files_[f] = File::create(folder / plan.files[f].name);
      files_[f].reserve(layout.file_bytes);
      files_[f].write_at(0, layout.header.data(), static_cast<int64_t>(layout.header.size()));
      mine_.insert(f);
    }
  }

  bool has(size_t file) const { return mine_.count(file) > 0; }
  const TensorInfo& info(size_t file, const std::string& name) const {
    return plan_.files[file].layout.tensors.at(name);
  }
  void write(size_t file, const std::string& name, int64_t element, const void* data,
             int64_t count) {
    const TensorInfo& to = info(file, name);
    const int64_t size = size_of(to.dtype);
    files_[file].write_at(to.offset + element * size, data, count * size);
  }
  void finish() {
    for (const size_t f : mine_) {
      files_[f].sync();
      files_[f].close();
    }
  }

 private:
  const ReshardPlan& plan_;
  std::vector<File> files_;
  std::set<size_t> mine_;
};

void write_piece(const Checkpoint& unified, const TensorInfo& source, const ReshardPiece& piece,
                 const std::vector<const Move*>& moves, ShardedFiles& files) {
  const int64_t size = size_of(source.dtype);
  std::vector<char> data;
  std::vector<char> dense;
  std::vector<char> converted;
  for (const Move* move : moves) {
    const RunPart part = part_of(move->run, piece);
    if (part.count == 0) continue;
    if (data.empty()) {
      data.resize(static_cast<size_t>((piece.end - piece.begin) * size));
      unified.read(source.name, piece.begin * size, static_cast<int64_t>(data.size()), data.data());
    }
    const char* bytes = data.data() + (part.from - piece.begin) * size;
    if (part.count > 1) {
      dense.resize(static_cast<size_t>(part.elements() * size));
      gather(data.data(), part, piece.begin, size, dense.data());
      bytes = dense.data();
    }
    const DType to = files.info(move->file, move->to).dtype;
    if (is_converted(*move, source.dtype, to)) {
      converted.resize(static_cast<size_t>(part.elements() * size_of(to)));
      convert_elements(bytes, source.dtype, converted.data(), to, part.elements(), move->plus_one);
      bytes = converted.data();
    }
    files.write(move->file, move->to, part.to, bytes, part.elements());
  }
}

void write_fills(const ReshardPlan& plan, ShardedFiles& files) {
  constexpr int64_t kMost = 1 << 16;
  for (const Fill& fill : plan.fills) {
    if (!files.has(fill.file)) continue;
    std::vector<char> elements;
    for (int64_t i = 0; i < std::min(fill.count, kMost); ++i) {
      elements.insert(elements.end(), fill.element.begin(), fill.element.end());
    }
    for (int64_t done = 0; done < fill.count; done += kMost) {
      files.write(fill.file, fill.to, fill.begin + done, elements.data(),
                  std::min(kMost, fill.count - done));
    }
  }
}

void write_maxima(const ReshardPlan& plan, const Checkpoint& unified, ShardedFiles& files) {
  for (const Maximum& maximum : plan.maxima) {
    if (!files.has(maximum.file)) continue;
    float largest = 0.0f;
    for (const std::string& from : maximum.from) {
      float value = 0.0f;
      unified.read(from, 0, sizeof(value), &value);
      largest = std::max(largest, value);
    }
    const auto scaled = static_cast<float>(static_cast<double>(largest) / maximum.divisor);
    const float value = std::max(scaled, maximum.least);
    files.write(maximum.file, maximum.to, 0, &value, 1);
  }
}

void check_tensor(const TensorSpec& planned, const std::map<std::string, TensorInfo>& found,
                  const fs::path& path) {
  const auto info = found.find(planned.name);
  if (info != found.end() && info->second.dtype == planned.dtype &&
      info->second.shape == planned.shape) {
    return;
  }
  throw InputError(concat("'", path.string(), "': expected the tensor '", planned.name, "' as ",
                          name_of(planned.dtype), " ", shape_text(planned.shape), ", found ",
                          info == found.end() ? "none"
                                              : concat(name_of(info->second.dtype), " ",
                                                       shape_text(info->second.shape))));
}

void check_file(const fs::path& path, const std::vector<TensorSpec>& planned) {
  const SafetensorsFile file(path);
  for (const TensorSpec& spec : planned) check_tensor(spec, file.tensors(), path);
  if (file.tensors().size() == planned.size()) return;
  for (const auto& [name, info] : file.tensors()) {
    const bool known = std::any_of(planned.begin(), planned.end(),
                                   [&](const TensorSpec& spec) { return spec.name == name; });
    if (!known) {
      throw InputError(concat("'", path.string(), "': the tensor '", name, "' was not expected"));
    }
  }
}

// What the tensors of one shard of the unified checkpoint are made of.
class ShardReader {
 public:
  ShardReader(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest) : plan_(plan) {
    for (const ReshardPlan::OutputFile& file : plan.files) {
      sources_.push_back(std::make_unique<SafetensorsFile>(folder / file.name));
    }
    if (!plan.rest.empty()) rest_ = std::make_unique<SafetensorsFile>(rest);
    for (const Move& move : plan.moves) {
      if (move.returns) moves_[move.from].push_back(&move);
    }
  }

  const std::vector<const Move*>& moves(const std::string& tensor) { return moves_[tensor]; }

  // The bytes of a piece of a tensor.
  std::vector<char> read(const TensorInfo& target, const ReshardPiece& piece,
                         const std::vector<const Move*>& moves) const {
    const int64_t size = size_of(target.dtype);
    std::vector<char> data(static_cast<size_t>((piece.end - piece.begin) * size));
    if (moves.empty()) {
      rest_->read(rest_->tensors().at(target.name), piece.begin * size,
                  static_cast<int64_t>(data.size()), data.data());
      return data;
    }
    std::vector<char> stored;
    std::vector<char> dense;
    for (const Move* move : moves) {
      const RunPart part = part_of(move->run, piece);
      if (part.count == 0) continue;
      const TensorInfo& from = sources_[move->file]->tensors().at(move->to);
      const int64_t from_size = size_of(from.dtype);
      stored.resize(static_cast<size_t>(part.elements() * from_size));
      sources_[move->file]->read(from, part.to * from_size, static_cast<int64_t>(stored.size()),
                                 stored.data());
      const char* bytes = stored.data();
      if (converts(from.dtype, target.dtype)) {
        dense.resize(static_cast<size_t>(part.elements() * size));
        convert_elements(bytes, from.dtype, dense.data(), target.dtype, part.elements(), false);
        bytes = dense.data();
      }
      scatter(bytes, part, piece.begin, size, data.data());
    }
    return data;
  }

 private:
  const ReshardPlan& plan_;
  std::vector<std::unique_ptr<SafetensorsFile>> sources_;
  std::unique_ptr<SafetensorsFile> rest_;
  std::map<std::string, std::vector<const Move*>> moves_;
};

}  // namespace

void check_equal_scales(const ReshardPlan& plan, const Checkpoint& unified, Communicator& ranks) {
  for (size_t i = 0; i < plan.equal.size(); ++i) {
    if (!is_mine(i, ranks)) continue;
    const std::vector<std::string>& names = plan.equal[i];
    const std::vector<char> first = unified.read_all(names.front());
    for (const std::string& name : names) {
      if (unified.read_all(name) == first) continue;
      throw InputError(concat(
          "'", names.front(), "' and '", name, "' differ, but TensorRT-LLM stores one for both, ",
          "and weights are not quantized again here: quantize the original with --target trtllm, ",
          "or with --fused-scales"));
    }
  }
  ranks.barrier();
}

void write_sharded(const ReshardPlan& plan, const Checkpoint& unified, const fs::path& folder,
                   Communicator& ranks, ThreadPool& pool) {
  ShardedFiles files(plan, folder, ranks);
  std::map<std::string, std::vector<const Move*>> moves;
  for (const Move& move : plan.moves) {
    if (move.writes && files.has(move.file)) moves[move.from].push_back(&move);
  }
  std::vector<std::pair<const std::string*, ReshardPiece>> tasks;
  for (const auto& [name, list] : moves) {
    for (const ReshardPiece& piece : pieces_of(spec_of(unified.info(name)), list)) {
      tasks.emplace_back(&name, piece);
    }
  }
  pool.for_each(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const auto& [name, piece] = tasks[static_cast<size_t>(i)];
    write_piece(unified, unified.info(*name), piece, moves.at(*name), files);
  });
  write_fills(plan, files);
  write_maxima(plan, unified, files);
  files.finish();
  ranks.barrier();
}

void write_rest(const ReshardPlan& plan, const Checkpoint& unified, const fs::path& path) {
  if (plan.rest.empty()) return;
  const SafetensorsLayout layout = plan_safetensors(plan.rest);
  File file = File::create(path);
  file.reserve(layout.file_bytes);
  file.write_at(0, layout.header.data(), static_cast<int64_t>(layout.header.size()));
  std::vector<char> data;
  for (const auto& [name, info] : layout.tensors) {
    for (const ReshardPiece& piece : pieces_of(spec_of(info), {})) {
      const int64_t begin = piece.begin * size_of(info.dtype);
      data.resize(static_cast<size_t>(piece.end * size_of(info.dtype) - begin));
      unified.read(name, begin, static_cast<int64_t>(data.size()), data.data());
      file.write_at(info.offset + begin, data.data(), static_cast<int64_t>(data.size()));
    }
  }
  file.sync();
  file.close();
}

void check_sharded(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest) {
  for (const ReshardPlan::OutputFile& file : plan.files) {
    std::vector<TensorSpec> planned;
    for (const auto& [name, info] : file.layout.tensors) planned.push_back(spec_of(info));
    check_file(folder / file.name, planned);
  }
  if (!plan.rest.empty()) check_file(rest, plan.rest);
}

void read_sharded(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest,
                  const Checkpoint& unified, Communicator& ranks, ThreadPool& pool) {
  ShardReader reader(plan, folder, rest);
  std::vector<fs::path> shards;
  for (const std::string& name : unified.names()) {
    const fs::path& path = unified.file_of(name);
    if (std::find(shards.begin(), shards.end(), path) == shards.end()) shards.push_back(path);
  }
  std::sort(shards.begin(), shards.end());
  std::map<fs::path, File> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    if (is_mine(i, ranks)) files[shards[i]] = File::open_for_writing(shards[i]);
  }
  struct Task {
    const TensorInfo* target;
    const std::vector<const Move*>* moves;
    ReshardPiece piece;
    File* file;
  };
  std::vector<Task> tasks;
  for (const std::string& name : unified.names()) {
    const auto file = files.find(unified.file_of(name));
    if (file == files.end()) continue;
    const TensorInfo& target = unified.info(name);
    const std::vector<const Move*>& moves = reader.moves(name);
    for (const ReshardPiece& piece : pieces_of(spec_of(target), moves)) {
      tasks.push_back({&target, &moves, piece, &file->second});
    }
  }
  pool.for_each(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const Task& task = tasks[static_cast<size_t>(i)];
    const std::vector<char> data = reader.read(*task.target, task.piece, *task.moves);
    task.file->write_at(task.target->offset + task.piece.begin * size_of(task.target->dtype),
                        data.data(), static_cast<int64_t>(data.size()));
  });
  for (auto& [path, file] : files) {
    file.sync();
    file.close();
  }
  ranks.barrier();
}

}  // namespace halftone
