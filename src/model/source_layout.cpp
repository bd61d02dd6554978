#include "model/source_layout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/log.h"
#include "formats/low_bit_source.h"

namespace halftone {
namespace {

std::string place_of(const Checkpoint& checkpoint, const std::string& tensor) {
  return concat("tensor '", tensor, "' in '", checkpoint.file_of(tensor).string(), "'");
}

void check_dtype(const Checkpoint& checkpoint, const TensorInfo& info) {
  if (info.dtype == DType::kF32 || info.dtype == DType::kF16 || info.dtype == DType::kBF16) return;
  throw InputError(concat(
      place_of(checkpoint, info.name), " is ", name_of(info.dtype), "; expected F32, F16 or BF16",
      is_low_bit_source(checkpoint) ? " (or codes with scales)"
                                    : ", or a quantization_config that says how it is stored"));
}

void check_shape(const Checkpoint& checkpoint, const TensorInfo& info,
                 const std::vector<int64_t>& expected) {
  if (info.shape == expected) return;
  throw InputError(concat(place_of(checkpoint, info.name), " has shape ", shape_text(info.shape),
                          ", but config.json asks for ", shape_text(expected)));
}

StoredTensor plain_slice(const Checkpoint& checkpoint, const TensorNeed& need) {
  const StackedSlice& slice = need.stacked;
  const TensorInfo& info = checkpoint.info(slice.tensor);
  std::vector<int64_t> expected = need.shape;
  if (slice.input_major) std::swap(expected[0], expected[1]);
  expected.insert(expected.begin(), slice.count);
  check_shape(checkpoint, info, expected);
  check_dtype(checkpoint, info);
  return {need.name,
          need.shape,
          info.dtype,
          {{slice.tensor, slice.index, slice.count}},
          info.bytes / slice.count,
          nullptr,
          slice.input_major};
}

// A tensor that is F32 in the model is written so too, whatever the checkpoint made of it.
class WidenedSource : public SourceCodec {
 public:
  std::string name() const override { return "widened"; }
  at::Tensor decode(const std::vector<at::Tensor>& pieces, const std::vector<int64_t>& shape,
                    at::ScalarType dtype, ThreadPool* /*pool*/) const override {
    return pieces.front().view(shape).to(dtype);
  }
};

}  // namespace

SourceLayout::SourceLayout(const Checkpoint& checkpoint, const Model& model)
    : checkpoint_(checkpoint), dtype_(model_dtype(checkpoint)) {
  check_numbered(model);
  for (const StageSpec& stage : model.stages()) add_stage(stage);
  add_extra();
}

StoredTensor locate(const Checkpoint& checkpoint, const TensorNeed& need, DType dtype) {
  const bool weight = need.shape.size() == 2 && need.name.ends_with(".weight");
  if (!weight) return locate_plain(checkpoint, need);
  auto found = find_low_bit(
      {checkpoint, source_quantization(checkpoint), need.name, need.shape, need.stacked, dtype});
  if (!found) return locate_plain(checkpoint, need);
  found->expert = need.expert;
  return *found;
}

void SourceLayout::add_stage(const StageSpec& stage) {
  std::vector<StoredTensor> tensors;
  for (const TensorNeed& need : stage.tensors) {
    tensors.push_back(locate(checkpoint_, need, dtype_));
    for (const TensorPiece& piece : tensors.back().pieces) used_.insert(piece.tensor);
    used_.insert(tensors.back().companions.begin(), tensors.back().companions.end());
  }
  stages_.push_back(std::move(tensors));
}

// A layer or an expert beyond those that config.json counts.
void SourceLayout::check_numbered(const Model& model) const {
  const auto prefixes = model.numbered_prefixes();
  for (const std::string& name : checkpoint_.names()) {
    for (const auto& [prefix, count] : prefixes) {
      if (!name.starts_with(prefix)) continue;
      int64_t number = 0;
      const char* begin = name.data() + prefix.size();
      const auto [end, error] = std::from_chars(begin, name.data() + name.size(), number);
      if (error != std::errc() || end == begin || number < count) continue;
      throw InputError(concat(place_of(checkpoint_, name), ": config.json asks for ", count,
                              " of '", prefix, "*', numbered from 0"));
    }
  }
}

// Low-bit weights of layers that the model does not compute are decoded like the others: nobody
// could read them once the configuration describes another format.
void SourceLayout::add_extra() {
  const Json& quantization = source_quantization(checkpoint_);
  std::set<std::string> consumed;
  std::vector<StoredTensor> found;
  for (const std::string& name : checkpoint_.names()) {
    if (used_.count(name) > 0 || quantization.is_null()) continue;
    const std::string base = name.ends_with("_packed") ? name.substr(0, name.size() - 7) : name;
    const TensorInfo& info = checkpoint_.info(name);
    const bool packed = base != name;
    if (!base.ends_with(".weight") || info.shape.size() != 2) continue;
    std::vector<int64_t> shape = info.shape;
    if (packed) shape[1] *= codes_per_word(checkpoint_, quantization);
    const auto stored = find_low_bit({checkpoint_, quantization, base, shape, {}, dtype_});
    if (!stored) continue;
    found.push_back(*stored);
    for (const TensorPiece& piece : stored->pieces) consumed.insert(piece.tensor);
    consumed.insert(stored->companions.begin(), stored->companions.end());
  }
  for (const std::string& name : checkpoint_.names()) {
    if (used_.count(name) > 0 || consumed.count(name) > 0) continue;
    found.push_back(stored_plainly(checkpoint_.info(name)));
  }
  std::sort(found.begin(), found.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  extra_ = std::move(found);
}

StoredTensor locate_plain(const Checkpoint& checkpoint, const TensorNeed& need) {
  StoredTensor stored;
  if (need.stacked.tensor.empty()) {
    const TensorInfo& info = checkpoint.info(need.name);
    check_shape(checkpoint, info, need.shape);
    check_dtype(checkpoint, info);
    stored = stored_plainly(info);
  } else {
    stored = plain_slice(checkpoint, need);
  }
  stored.expert = need.expert;
  stored.keeps_dtype = need.keeps_dtype;
  if (need.keeps_dtype && stored.dtype != DType::kF32) {
    stored.dtype = DType::kF32;
    stored.codec = std::make_shared<const WidenedSource>();
  }
  return stored;
}

int64_t bytes_of(const std::vector<StoredTensor>& stage) {
  int64_t bytes = 0;
  for (const StoredTensor& tensor : stage) bytes += tensor.bytes;
  return bytes;
}

}  // namespace halftone
