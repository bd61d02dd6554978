#pragma once

#include "formats/codec.h"

namespace halftone {

// One function per codec file; codec.cpp lists them.
const Codec& fp8_codec();
const Codec& int8_weight_only_codec();
const Codec& nvfp4_codec();

// Per tensor, calibrated.
bool is_static_fp8_input(const QuantizerSequence& input);

}  // namespace halftone
