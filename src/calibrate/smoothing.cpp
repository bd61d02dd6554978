#include "calibrate/smoothing.h"

#include <ATen/ATen.h>

#include "dist/reductions.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

// max_c T(amax_c * scale_c): what the smoothed input reaches, in the compute dtype.
void smooth_input(const StageRun& run, size_t i, const at::Tensor& scale_K,
                  LinearSolution& solution) {
  if (!run.format(i).input.needs_amax()) return;
  if (run.statistics.input_amax[i] == MaxBucket::kAbsent) return;
  solution.input_amax = (run.statistics.channel_amax[i] * scale_K)
                            .max()
                            .to(scalar_type_of(run.compute_dtype))
                            .to(at::kFloat)
                            .item<float>();
}

bool holds(const at::Tensor& scale, at::ScalarType dtype) {
  const at::Tensor stored = scale.to(dtype).to(at::kFloat);
  return at::logical_and(at::isfinite(stored), stored > 0).all().item<bool>();
}

}  // namespace

void smooth(const StageRun& run, size_t i, const at::Tensor& scale_K, LinearSolution& solution) {
  const at::ScalarType dtype = scalar_type_of(run.model_dtype);
  const at::Tensor inverse = scale_K.reciprocal();
  if (!holds(scale_K, dtype) || !holds(inverse, at::kFloat)) {
    leave_unsmoothed(run, i, "its scale is zero or not finite in the model's dtype", solution);
    return;
  }
  solution.edits.push_back({WeightEdit::Kind::kScaleColumns, inverse, {}});
  if (run.model_dtype == DType::kF16) {
    const at::Tensor w = edited_weight(solution, run.weight(i));
    if (!at::isfinite(w).all().item<bool>()) {
      solution.edits.pop_back();
      leave_unsmoothed(run, i, "the smoothed weight overflows FP16", solution);
      return;
    }
  }
  solution.pre_quant_scale_K = scale_K.to(dtype);
  smooth_input(run, i, scale_K, solution);
}

void leave_unsmoothed(const StageRun& run, size_t i, const std::string& reason,
                      LinearSolution& solution) {
  solution.pre_quant_scale_K = at::ones({run.stage.linears[i].in}, scalar_type_of(run.model_dtype));
  solution.record["fallback"] = "not smoothed: " + reason;
}

}  // namespace halftone
