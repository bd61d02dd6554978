#include "formats/quantizer.h"

#include <fnmatch.h>

#include <algorithm>

namespace halftone {

bool QuantizerSequence::enabled() const {
  return std::any_of(stages.begin(), stages.end(), [](const Quantizer& q) { return q.enable; });
}

bool glob_matches(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
}

}  // namespace halftone
