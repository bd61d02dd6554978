#include "export/synthetic.h"

#include <algorithm>
#include <set>

#include "export/random_values.h"
#include "export/sidecars.h"

namespace halftone {
namespace {

// What one task fills and writes; a multiple of kRandomRun elements.
constexpr int64_t kPieceElements = int64_t{4} << 20;

// The tensor on disk that holds what a stage needs: experts may share a stack.
TensorSpec on_disk(const TensorNeed& need, DType dtype) {
  TensorSpec spec{need.name, need.keeps_dtype ? DType::kF32 : dtype, need.shape};
  if (need.stacked.tensor.empty()) return spec;
  spec.name = need.stacked.tensor;
  if (need.stacked.input_major) std::swap(spec.shape[0], spec.shape[1]);
  spec.shape.insert(spec.shape.begin(), need.stacked.count);
  return spec;
}

RandomKind kind_of(const TensorInfo& info) {
  const bool gain = info.shape.size() == 1 && info.name.ends_with(".weight");
  return gain ? RandomKind::kGain : RandomKind::kWeight;
}

struct Piece {
  const TensorInfo* info;
  uint64_t key;
  int64_t begin;  // elements
  int64_t count;
};

std::vector<Piece> pieces_of(const SafetensorsLayout& layout, uint64_t seed) {
  std::vector<Piece> pieces;
  for (const auto& [name, info] : layout.tensors) {
    const uint64_t key = random_key(seed, name);
    for (int64_t begin = 0; begin < info.count(); begin += kPieceElements) {
      pieces.push_back({&info, key, begin, std::min(kPieceElements, info.count() - begin)});
    }
  }
  // In the order of the file, so that its pages are written back in one go.
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return std::pair(a.info->offset, a.begin) < std::pair(b.info->offset, b.begin);
  });
  return pieces;
}

void write_weights(const HfLayout::OutputFile& planned, uint64_t seed, const fs::path& folder,
                   ThreadPool& pool) {
  File file = File::create(folder / planned.name);
  file.bypass_cache();
  file.reserve(planned.layout.file_bytes);
  file.write_at(0, planned.layout.header.data(),
                static_cast<int64_t>(planned.layout.header.size()));
  const std::vector<Piece> pieces = pieces_of(planned.layout, seed);
  pool.for_each(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const int64_t size = size_of(piece.info->dtype);
    std::vector<char> data(static_cast<size_t>(piece.count * size));
    fill_random(piece.key, kind_of(*piece.info), piece.info->dtype, piece.begin, piece.count,
                data.data());
    file.write_at(piece.info->offset + piece.begin * size, data.data(), piece.count * size);
  });
  file.sync();
  file.close();
}

}  // namespace

SyntheticCheckpoint plan_synthetic(const Model& model, Json config, DType dtype,
                                   int64_t max_shard_bytes) {
  std::set<std::string> seen;  // tied tensors and stacks are needed more than once
  std::vector<std::vector<TensorSpec>> units;
  for (const StageSpec& stage : model.stages()) {
    for (const TensorNeed& need : stage.tensors) {
      TensorSpec spec = on_disk(need, dtype);
      if (seen.insert(spec.name).second) units.push_back({std::move(spec)});
    }
  }
  return {lay_out(units, max_shard_bytes), std::move(config)};
}

void write_synthetic(const SyntheticCheckpoint& checkpoint, uint64_t seed, const fs::path& folder,
                     ThreadPool& pool) {
  for (const HfLayout::OutputFile& file : checkpoint.layout.files) {
    write_weights(file, seed, folder, pool);
  }
  write_index(checkpoint.layout, folder);
  write_text_file(folder / "config.json", checkpoint.config.dump(2) + "\n");
}

}  // namespace halftone
