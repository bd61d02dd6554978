// SVDQuant (Li et al. 2024; calibration.md, 5.8): AWQ's smoothing, then the weight's largest
// singular directions stay in the model's dtype beside the quantized rest. The decomposition comes
// with the fused groups (low_rank.h), whose members share a factor.
#include "calibrate/algorithms/awq.h"

namespace halftone {

Algorithm svdquant_algorithm() {
  Algorithm algorithm = awq_lite_algorithm();
  algorithm.name = "svdquant";
  algorithm.smoothing = Smoothing::kSvdQuant;
  algorithm.fits = [](const LinearFormat& format) {
    return format.codec->name().starts_with("nvfp4") && format.input.kind == InputKind::kNvfp4;
  };
  algorithm.fits_text = "NVFP4 weights with NVFP4 inputs";
  return algorithm;
}

int64_t low_rank_of(const AlgorithmSpec& spec, const LinearSite& linear) {
  for (const std::string& pattern : texts_option(spec, "skip_layers")) {
    if (glob_matches(pattern, linear.name)) return 0;
  }
  return integer_option(spec, "lowrank");
}

}  // namespace halftone
