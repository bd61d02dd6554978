#pragma once

#include <source_location>
#include <string_view>

namespace halftone {

// A programmer's error: prints the text and the place, then aborts. Users' errors are core/error.h.
void check(bool holds, std::string_view text,
           std::source_location where = std::source_location::current());

}  // namespace halftone
