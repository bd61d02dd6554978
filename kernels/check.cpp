#include "kernels/check.h"

#include <cstdio>
#include <cstdlib>

namespace halftone {

void check(bool holds, std::string_view text, std::source_location where) {
  if (holds) return;
  std::fprintf(stderr, "halftone: %.*s (%s:%u, %s)\n", static_cast<int>(text.size()), text.data(),
               where.file_name(), static_cast<unsigned>(where.line()), where.function_name());
  std::abort();
}

}  // namespace halftone
