#pragma once

#include <string>
#include <vector>

#include "formats/linear_format.h"
#include "formats/stored_tensor.h"
#include "io/checkpoint.h"
#include "model/model.h"

namespace halftone {

// Where a tensor goes in a unified Hugging Face checkpoint: into one of its own, or into its part
// of one that stacks all experts (formats-and-hf-export.md, 3.2 and 3.4).
struct HfPart {
  std::string suffix;  // of a linear's stored tensors; empty: a tensor that is copied
  TensorSpec whole;    // the output's tensor
  int64_t index = 0;   // of `count` parts along its first dimension
  int64_t count = 1;
  bool input_major = false;  // the part is stored as [in, out]
  bool writes = true;        // of a scalar that all experts share, the first expert's
};

// Whether engines know the format of stacked experts; others are written expert by expert.
bool stacks_in_hf(const LinearSite& linear, const LinearFormat& format);
// The name of a linear's stored tensor.
std::string hf_name(const LinearSite& linear, bool stacked, const std::string& suffix);
// Of every stored tensor of a quantized linear; `experts`: how many its stage has.
std::vector<HfPart> hf_parts(const LinearSite& linear, const LinearFormat& format, int64_t experts,
                             DType model_dtype);
// How such a tensor is read back: "<linear>.<suffix>", also where it is stacked.
StoredTensor stored_part(const Checkpoint& checkpoint, const LinearSite& linear,
                         const HfPart& part);
// Of a tensor that is copied in `dtype`.
HfPart hf_part(const TensorNeed& need, DType dtype);

}  // namespace halftone
