#pragma once

#include <string>

#include "core/json.h"

namespace halftone {

// A name from a file for a message: control characters escaped (a NUL would end the message), and
// cut where it is absurdly long.
inline std::string shown_name(const std::string& name) {
  const std::string quoted = Json(name).dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::string inner = quoted.substr(1, quoted.size() - 2);
  return inner.size() <= 300 ? "'" + inner + "'" : "'" + inner.substr(0, 300) + "...'";
}

// Whether a file's name from a file stays in its folder.
inline bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name.find("..") == std::string::npos &&
         name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

}  // namespace halftone
