#include <ATen/ATen.h>

#include "engine/stage_loader.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"

namespace halftone {
namespace {

std::map<std::string, size_t> index_of(const std::vector<StoredTensor>& tensors) {
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < tensors.size(); ++i) index[tensors[i].name] = i;
  return index;
}

at::Tensor view_of(const at::Tensor& bytes, const StageImage::Entry& entry) {
  return bytes.slice(0, entry.begin, entry.begin + entry.bytes)
      .view(scalar_type_of(entry.dtype))
      .view(entry.shape);
}

}  // namespace

LoadedStage::LoadedStage(std::vector<StoredTensor> tensors, StageImage image, at::Tensor bytes,
                         ThreadPool& pool)
    : tensors_(std::move(tensors)),
      index_(index_of(tensors_)),
      image_(std::move(image)),
      bytes_(std::move(bytes)),
      device_(bytes_.device()),
      pool_(pool) {
  for (size_t i = 0; i < image_.entries.size(); ++i) entry_of_[image_.entries[i].piece] = i;
}

LoadedStage::LoadedStage(std::vector<StoredTensor> tensors, const Checkpoint& checkpoint,
                         at::Device device, ThreadPool& pool)
    : tensors_(std::move(tensors)),
      index_(index_of(tensors_)),
      checkpoint_(&checkpoint),
      device_(device),
      pool_(pool) {}

const StoredTensor& LoadedStage::stored(const std::string& name) const {
  const auto found = index_.find(name);
  check(found != index_.end(), "a stage uses only the tensors that it lists: " + name);
  return tensors_[found->second];
}

at::Tensor LoadedStage::tensor(const std::string& name) const {
  const StoredTensor& wanted = stored(name);
  return decode_stored(wanted, pieces(wanted), &pool_);
}

at::Tensor LoadedStage::tensor_as(const std::string& name, at::ScalarType dtype) const {
  StoredTensor wanted = stored(name);
  if (wanted.keeps_dtype) return tensor(name);
  if (wanted.codec != nullptr) wanted.dtype = dtype_of(dtype);
  return decode_stored(wanted, pieces(wanted), &pool_).to(dtype);
}

at::Tensor LoadedStage::block_exponents(const std::string& name) const {
  const StoredTensor& wanted = stored(name);
  return wanted.codec == nullptr ? at::Tensor() : wanted.codec->block_exponents(pieces(wanted));
}

std::vector<at::Tensor> LoadedStage::pieces(const StoredTensor& stored) const {
  std::vector<at::Tensor> pieces;
  for (const TensorPiece& piece : stored.pieces) {
    pieces.push_back(in_memory() ? view_of(bytes_, image_.entries[entry_of_.at(piece)])
                                 : read_piece(piece));
  }
  return pieces;
}

at::Tensor LoadedStage::read_piece(const TensorPiece& piece) const {
  const StageImage image = plan_stage_image(*checkpoint_, {piece});
  at::Tensor bytes = at::empty({image.bytes}, at::kByte);
  read_stage_range(*checkpoint_, image, 0, image.bytes, bytes.mutable_data_ptr());
  return view_of(bytes.to(device_), image.entries.front());
}

}  // namespace halftone
