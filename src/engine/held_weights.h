#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "engine/load_step.h"
#include "formats/stored_tensor.h"
#include "io/stage_image.h"

namespace halftone {

// This rank's share of one load step: of the step's image, the part with its rank's number.
struct HeldStep {
  std::vector<StoredTensor> tensors;  // what the image holds
  StageImage image;
  at::Tensor part;  // uint8 [image.part_bytes(ranks)], on the run's device
};

// The weights that the ranks keep between passes, 1/N each whatever the model: an image is divided
// by bytes, not by tensors. Residency `resident` keeps the source's bytes, `compressed` those of
// the target. A loader that finds a step here reads no file for it.
class HeldWeights {
 public:
  // keeps_source: loaders put what they read here.
  explicit HeldWeights(bool keeps_source) : keeps_source_(keeps_source) {}

  bool keeps_source() const { return keeps_source_; }
  const HeldStep* find(const LoadStep& step) const;  // null: not held
  void keep(const LoadStep& step, HeldStep held);
  int64_t bytes() const;  // of this rank

 private:
  using Key = std::tuple<size_t, int64_t, int64_t>;  // the stage, first and last expert
  static Key key_of(const LoadStep& step);

  bool keeps_source_;
  std::map<Key, HeldStep> steps_;
};

}  // namespace halftone
