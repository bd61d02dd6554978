#pragma once

#include "export/library_target.h"

namespace halftone {

// One file each.
const LibraryTarget& compressed_tensors_target();
const LibraryTarget& autoawq_target();
const LibraryTarget& gptq_target();

}  // namespace halftone
