#include "engine/residency.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "engine/device_memory.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

constexpr const char* kInstead = "use --residency stream";

bool is_compressible(const Codec& codec) {
  return codec.name() == "fp8" || codec.name().starts_with("nvfp4");
}

void check_algorithms(const Recipe& recipe) {
  if (recipe.propagate == Recipe::Propagate::kQuantized) {
    throw UsageError(concat("--residency compressed calibrates in one pass, but '", recipe.name,
                            "' calibrates each layer on quantized ones before it: ", kInstead));
  }
  for (const AlgorithmSpec& spec : recipe.algorithms) {
    if (spec.method == "max") continue;
    throw UsageError(concat("--residency compressed holds FP8 and NVFP4 weights with max ",
                            "calibration; '", recipe.name, "' uses ", spec.method,
                            ", which works on source weights: ", kInstead));
  }
}

void check_formats(const TargetPlan& target, const Model& model) {
  for (size_t s = 0; s < target.stages.size(); ++s) {
    const std::vector<LinearFormat>& linears = target.stages[s].linears;
    for (size_t i = 0; i < linears.size(); ++i) {
      if (!linears[i].quantized() || is_compressible(*linears[i].codec)) continue;
      throw UsageError(concat("--residency compressed holds FP8 and NVFP4 weights with max ",
                              "calibration; '", target.recipe.name, "' stores '",
                              model.stages()[s].linears[i].name, "' as ", linears[i].codec->name(),
                              ": ", kInstead));
    }
  }
}

double gigabytes(int64_t bytes) {
  return static_cast<double>(bytes) / 1e9;
}

int64_t part_of(int64_t bytes, int ranks) {
  return (bytes + ranks - 1) / ranks;
}

// The least of all ranks.
int64_t least_available(const Cluster& cluster) {
  int64_t refused = cluster.tensors.device() == Device::kCpu
                        ? -available_host_bytes() / cluster.world.local_size()
                        : -available_device_bytes(cluster.device);
  cluster.control.all_reduce(&refused, 1, DType::kI64, ReduceOp::kMax);
  return -refused;
}

}  // namespace

const char* name_of(Residency residency) {
  switch (residency) {
    case Residency::kStream:
      return "stream";
    case Residency::kResident:
      return "resident";
    case Residency::kCompressed:
      return "compressed";
  }
  return "";
}

Residency residency_named(const std::string& name, const std::string& source) {
  for (const Residency residency :
       {Residency::kStream, Residency::kResident, Residency::kCompressed}) {
    if (name == name_of(residency)) return residency;
  }
  throw InputError(concat(source, ": unknown residency '", name, "'"));
}

ResidencyChoice choose_residency(int64_t source_bytes, int64_t largest_step_bytes, int ranks,
                                 int64_t budget, int passes) {
  if (passes < 2) return {Residency::kStream, "the weights are needed once"};
  const int64_t needed = part_of(source_bytes, ranks) + 2 * largest_step_bytes;
  const std::string figures =
      concat(passes, " passes; 1/", ranks, " of the weights and two stages are ", gigabytes(needed),
             " GB a rank, of ", gigabytes(budget), " GB");
  if (needed <= budget) return {Residency::kResident, figures};
  return {Residency::kStream, figures + ": too much to hold"};
}

ResidencyChoice choose_residency(const std::vector<LoadStep>& steps, int passes,
                                 const Cluster& cluster) {
  int64_t sum = 0;
  int64_t largest = 0;
  for (const LoadStep& step : steps) {
    const int64_t bytes = bytes_of(step.tensors);
    sum += bytes;
    largest = std::max(largest, bytes);
  }
  return choose_residency(sum, largest, cluster.world.size(), least_available(cluster), passes);
}

void check_compressible(const std::vector<const TargetPlan*>& targets, const Model& model,
                        const std::vector<LoadStep>& steps, bool calibrates_on_it) {
  if (targets.size() > 1) {
    throw UsageError(concat("--residency compressed holds the weights in one format, but '",
                            targets[0]->recipe.name, "' and '", targets[1]->recipe.name,
                            "' share this run: give each a run of its own, or ", kInstead));
  }
  check_algorithms(targets.front()->recipe);
  check_formats(*targets.front(), model);
  for (const LoadStep& step : steps) {
    if (!calibrates_on_it || step.part.whole()) continue;
    throw UsageError(
        concat("--calibrate-on compressed packs a stage before it is calibrated, but '",
               model.stages()[step.stage].name, "' comes a few experts at a time: ",
               "raise --max-stage-bytes, or use --calibrate-on source"));
  }
}

}  // namespace halftone
