#pragma once

#include "model/family.h"

namespace halftone {

// One function per file of this folder; family.cpp lists them.
Family llama_family();
Family mt5_family();
Family t5_family();
Family whisper_family();

}  // namespace halftone
