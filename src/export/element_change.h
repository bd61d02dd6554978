#pragma once

#include <memory>

#include "dist/byte_plan.h"
#include "kernels/dtype.h"

namespace halftone {

// Elements as another layout stores them: floating types of different width are converted, with one
// rounding, and 1 may be added. Null where the bytes stay as they are.
std::shared_ptr<const ElementChange> element_change(DType from, DType to, bool plus_one);

}  // namespace halftone
