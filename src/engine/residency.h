#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calibrate/target_plan.h"
#include "engine/cluster.h"
#include "engine/load_step.h"

namespace halftone {

// What a rank holds of the weights between passes (design.md, section 2).
enum class Residency : uint8_t {
  kStream,      // nothing: every pass reads the source
  kResident,    // 1/N of the source's bytes
  kCompressed,  // 1/N of what the target stores
};
const char* name_of(Residency residency);
// Another text is an InputError naming the source.
Residency residency_named(const std::string& name, const std::string& source);

struct ResidencyChoice {
  Residency residency = Residency::kStream;
  std::string why;
};

// What `auto` means. Bytes: of all load steps, tied tensors as often as they are loaded; of the
// largest step; and what a rank may use of the memory in which weights are held. `compressed` is
// never chosen: what a run can do afterwards depends on it.
ResidencyChoice choose_residency(int64_t source_bytes, int64_t largest_step_bytes, int ranks,
                                 int64_t budget, int passes);
// The same for these steps; the budget is what the ranks find available. Collective.
ResidencyChoice choose_residency(const std::vector<LoadStep>& steps, int passes,
                                 const Cluster& cluster);

// UsageError with the reason where these targets cannot be held compressed, or, with
// `calibrates_on_it`, where a stage of `steps` cannot be calibrated so.
void check_compressible(const std::vector<const TargetPlan*>& targets, const Model& model,
                        const std::vector<LoadStep>& steps, bool calibrates_on_it);

}  // namespace halftone
