#pragma once

#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include "core/json.h"
#include "tests/core/temporary_folder.h"

namespace halftone {

inline fs::path chat_folder() {
  return fs::path(HALFTONE_TEST_DATA) / "chat";
}

// The day on which the golden texts were made.
inline std::tm a_friday() {
  std::tm day{};
  day.tm_year = 124;
  day.tm_mon = 6;
  day.tm_mday = 26;
  day.tm_wday = 5;
  day.tm_yday = 207;
  return day;
}

}  // namespace halftone
