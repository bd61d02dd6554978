#pragma once

#include "model/family.h"

namespace halftone {

// One function per file of this folder; family.cpp lists them.
Family llama_family();

}  // namespace halftone
