#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace halftone::bench {

struct Operation {
  std::string name;
  int64_t bytes;  // read and written
  std::function<void()> run;
};

}  // namespace halftone::bench
