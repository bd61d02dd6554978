#include "kernels/check.h"

#include <cstdio>
#include <cstdlib>

namespace halftone {

void check(bool holds, std::string_view text, const char* file, int line) {
  if (holds) return;
  std::fprintf(stderr, "halftone: %.*s (%s:%d)\n", static_cast<int>(text.size()), text.data(), file,
               line);
  std::abort();
}

}  // namespace halftone
