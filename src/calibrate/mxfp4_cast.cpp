#include "calibrate/mxfp4_cast.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>

#include "formats/codecs.h"
#include "kernels/scale.h"

namespace halftone {
namespace {

constexpr int kExponentBias = 127;
// Block scales 2^(k - m) are exact in E4M3 for k - m from -9 to 8.
constexpr int kLargestShift = 8;
constexpr int kSmallestShift = -9;

bool is_cast(const StageRun& run, const StageSolution& solution, size_t i) {
  const LinearFormat& format = run.format(i);
  return format.quantized() && is_plain_nvfp4(*format.codec) &&
         format.smoothing == Smoothing::kNone && solution.linears[i].edits.empty() &&
         solution.linears[i].block_amax.kind == BlockAmaxRule::Kind::kOwn;
}

// The largest exponent of a block with one; 8 where all bytes are zero, so that m is 0.
int largest_exponent(const at::Tensor& exponents) {
  const auto largest = exponents.max().item<uint8_t>();
  return largest == 0 ? kLargestShift : int{largest} - kExponentBias;
}

}  // namespace

void cast_mxfp4(const StageRun& run, StageSolution& solution) {
  if (!run.block_exponents) return;
  std::map<std::string, std::vector<size_t>> stacks;
  std::map<std::string, int> largest;
  for (size_t i = 0; i < solution.linears.size(); ++i) {
    if (!is_cast(run, solution, i)) continue;
    const LinearSite& linear = run.stage.linears[i];
    const at::Tensor exponents = run.block_exponents(linear.weight);
    if (!exponents.defined()) continue;
    const std::string& stack = linear.stacked.empty() ? linear.name : linear.stacked;
    const int mine = largest_exponent(exponents);
    const auto known = largest.emplace(stack, mine).first;
    known->second = std::max(known->second, mine);
    stacks[stack].push_back(i);
    // A copy: solutions may outlive what the stage was loaded into.
    solution.linears[i].block_amax = {
        BlockAmaxRule::Kind::kCastMxfp4, {}, {}, {}, exponents.clone()};
  }
  for (const auto& [stack, members] : stacks) {
    const int second = largest[stack] - kLargestShift;
    for (const size_t i : members) {
      solution.linears[i].block_amax.second_exponent = second;
      solution.linears[i].weight_amax = std::ldexp(kMaxNvfp4, second);
    }
  }
}

at::Tensor cast_block_amax(const at::Tensor& w_NK, const at::Tensor& exponents, int second_exponent,
                           ThreadPool* pool) {
  const at::Tensor k = exponents.to(w_NK.device(), at::kInt) - kExponentBias;
  const at::Tensor shift = k - second_exponent;
  const at::Tensor exact = at::logical_and(shift >= kSmallestShift, shift <= kLargestShift);
  const at::Tensor six = at::full({}, 6.0, at::TensorOptions(at::kFloat).device(w_NK.device()));
  const at::Tensor amax_NB = at::where(exact, at::ldexp(six, k), block_amax_of(w_NK, 32, pool));
  return amax_NB.repeat_interleave(2, 1).contiguous();
}

}  // namespace halftone
