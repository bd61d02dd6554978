#pragma once

#include <string_view>

namespace halftone {

// A programmer's error: prints the text and the place, then aborts. Users' errors are core/error.h.
void check(bool holds, std::string_view text, const char* file = __builtin_FILE(),
           int line = __builtin_LINE());

}  // namespace halftone
