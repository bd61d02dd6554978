#include "calibrate/algorithm.h"

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {

const std::vector<Algorithm>& algorithms() {
  static const std::vector<Algorithm> list{
      max_algorithm(),
  };
  return list;
}

const Algorithm& algorithm_named(const std::string& name) {
  std::vector<std::string> known;
  for (const Algorithm& algorithm : algorithms()) {
    if (algorithm.name == name) return algorithm;
    known.push_back(algorithm.name);
  }
  throw UsageError(concat("unknown algorithm '", name, "'", nearest_hint(name, known)));
}

}  // namespace halftone
