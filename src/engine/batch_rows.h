#pragma once

#include <cstdint>
#include <vector>

#include "model/model.h"

namespace halftone {

// Rows [begin, end) of a batch, as a batch of its own that is padded as the whole one is.
BatchContext rows_of(const BatchContext& batch, int64_t begin, int64_t end);
// Views of the same rows of its states.
States rows_of(const States& states, int64_t begin, int64_t end);
// The whole batch again from all its rows, in order: parts[i] holds `rows_per_part` rows, the last
// one what is left.
States join_rows(const std::vector<States>& parts, int64_t rows_per_part);

}  // namespace halftone
