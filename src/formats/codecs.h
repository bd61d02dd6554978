#pragma once

#include "formats/codec.h"

namespace halftone {

// One function per codec file; codec.cpp lists them.
const Codec& fp8_codec();
const Codec& int8_weight_only_codec();
const Codec& nvfp4_codec();

// E4M3 with one scale for the whole tensor.
bool is_fp8_per_tensor(const Quantizer& quantizer);

}  // namespace halftone
