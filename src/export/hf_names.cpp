#include "export/hf_names.h"

namespace halftone {

bool stacks_in_hf(const LinearSite& linear, const LinearFormat& format) {
  if (linear.stacked.empty() || format.low_rank > 0 || format.form) return false;
  if (format.pre_quant_scale != PreQuantScale::kNone) return false;
  const std::string codec = format.codec->name();
  return codec == "fp8" || codec.starts_with("nvfp4");
}

std::string hf_name(const LinearSite& linear, bool stacked, const std::string& suffix) {
  if (!stacked) return linear.name + "." + suffix;
  return suffix == "weight" ? linear.stacked : linear.stacked + "_" + suffix;
}

std::vector<HfPart> hf_parts(const LinearSite& linear, const LinearFormat& format, int64_t experts,
                             DType model_dtype) {
  const bool stacked = stacks_in_hf(linear, format);
  std::vector<HfPart> parts;
  for (TensorSpec spec : stored_tensors(format, linear.out, linear.in, model_dtype)) {
    HfPart part;
    part.suffix = spec.name;
    spec.name = hf_name(linear, stacked, spec.name);
    if (stacked && spec.shape.empty()) {
      part.writes = linear.expert == 0;
    } else if (stacked) {
      part.index = linear.expert;
      part.count = experts;
      part.input_major = true;
      spec.shape = {experts, spec.shape[1], spec.shape[0]};
    }
    part.whole = std::move(spec);
    parts.push_back(std::move(part));
  }
  return parts;
}

StoredTensor stored_part(const Checkpoint& checkpoint, const LinearSite& linear,
                         const HfPart& part) {
  StoredTensor stored = stored_plainly(checkpoint.info(part.whole.name), linear.expert);
  stored.name = linear.name + "." + part.suffix;
  if (part.count > 1) {
    stored.pieces = {{part.whole.name, part.index, part.count}};
    stored.bytes /= part.count;
    stored.shape.erase(stored.shape.begin());
  }
  if (part.input_major) {
    stored.transposed = true;
    stored.shape = {part.whole.shape[2], part.whole.shape[1]};
  }
  return stored;
}

HfPart hf_part(const TensorNeed& need, DType dtype) {
  HfPart part;
  part.whole = {need.name, dtype, need.shape};
  const StackedSlice& slice = need.stacked;
  if (slice.tensor.empty()) return part;
  part.index = slice.index;
  part.count = slice.count;
  part.input_major = slice.input_major;
  part.whole.name = slice.tensor;
  if (slice.input_major) std::swap(part.whole.shape[0], part.whole.shape[1]);
  part.whole.shape.insert(part.whole.shape.begin(), slice.count);
  return part;
}

}  // namespace halftone
