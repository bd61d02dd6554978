#pragma once

#include "export/library_target.h"

namespace halftone {

// What the two layouts of INT4 in groups have in common.

// What keeps a linear out of them: formats other than INT4 in groups, sizes that are no multiple of
// the eight codes of a word.
std::string int4_problem(const LinearSite& linear, const LinearFormat& format);
// Of the only format.
int64_t int4_group(const QuantizedModules& modules, const std::vector<StagePlan>& stages);
// The one entry of such a configuration; `bits` and `group`: keys of which the first that is there
// counts. Other numbers of bits, and rows without groups, are InputErrors.
StoredQuantization read_int4(const Json& config, const std::vector<const char*>& bits,
                             const std::vector<const char*>& group, const std::string& source);
// F32 [out, groups] as [groups, out] in `dtype`: one that is too small for it becomes the smallest
// number there (the weights are as good as zero), one that is too large is an InputError.
at::Tensor int4_scales(const std::string& module, const at::Tensor& scale_NG, DType dtype);

}  // namespace halftone
