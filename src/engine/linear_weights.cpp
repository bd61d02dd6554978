#include "engine/linear_weights.h"

#include <ATen/ATen.h>

#include "engine/stored_linear.h"
#include "engine/weight_source.h"
#include "export/hf_names.h"
#include "model/family.h"

namespace halftone {

LinearWeights::LinearWeights(const Checkpoint& checkpoint, const std::string& family,
                             ThreadPool& pool)
    : checkpoint_(checkpoint),
      model_(make_model(checkpoint, family)),
      dtype_(model_dtype(checkpoint)),
      pool_(pool) {
  if (is_export(checkpoint)) {
    headers_ = check_headers(checkpoint, *model_, nullptr);
  } else {
    original_.emplace(checkpoint, *model_);
  }
  for (size_t s = 0; s < model_->stages().size(); ++s) {
    for (size_t i = 0; i < model_->stages()[s].linears.size(); ++i) add_linear(s, i);
  }
}

void LinearWeights::add_linear(size_t stage, size_t linear) {
  const StageSpec& spec = model_->stages()[stage];
  const LinearSite& site = spec.linears[linear];
  if (headers_.unsound.count(site.name) > 0) return;
  Place place{stage, linear, 0};
  while (spec.tensors[place.tensor].name != site.weight) ++place.tensor;
  std::vector<std::string>& names = tensors_[site.name];
  if (original_) {
    for (const TensorPiece& piece : original_->stages()[stage][place.tensor].pieces) {
      names.push_back(piece.tensor);
    }
  } else if (headers_.stages[stage].linears[linear].quantized()) {
    for (const HfPart& part :
         hf_parts(site, headers_.stages[stage].linears[linear], spec.experts, dtype_)) {
      names.push_back(part.whole.name);
    }
  } else if (headers_.unsound.count(site.weight) == 0) {
    names.push_back(locate_plain(checkpoint_, spec.tensors[place.tensor]).pieces.front().tensor);
  } else {
    tensors_.erase(site.name);
    return;
  }
  places_[site.name] = place;
}

at::Tensor LinearWeights::weight(const std::string& linear) const {
  const Place& place = places_.at(linear);
  const StageSpec& spec = model_->stages()[place.stage];
  const TensorNeed& need = spec.tensors[place.tensor];
  if (!original_ && headers_.stages[place.stage].linears[place.linear].quantized()) {
    return dequantized(place);
  }
  const StoredTensor stored =
      original_ ? original_->stages()[place.stage][place.tensor] : locate_plain(checkpoint_, need);
  const LoadedStage loaded({stored}, checkpoint_, at::kCPU, pool_);
  return loaded.tensor_as(need.name, at::kFloat).contiguous();
}

at::Tensor LinearWeights::dequantized(const Place& place) const {
  const StageSpec& spec = model_->stages()[place.stage];
  const LinearFormat& format = headers_.stages[place.stage].linears[place.linear];
  const PackedLinear packed =
      read_packed(checkpoint_, spec.linears[place.linear], format, spec.experts, dtype_, pool_);
  at::Tensor w_NK = format.codec->unpack(packed, at::kFloat, &pool_);
  if (format.low_rank > 0) {
    w_NK =
        w_NK + at::matmul(packed.at(kLowRankB).to(at::kFloat), packed.at(kLowRankA).to(at::kFloat));
  }
  const auto scale = packed.find("pre_quant_scale");
  return scale == packed.end() ? w_NK : w_NK * scale->second.to(at::kFloat);
}

}  // namespace halftone
