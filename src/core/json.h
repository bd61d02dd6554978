#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/files.h"

namespace halftone {

// Keys keep the order of the file.
using Json = nlohmann::ordered_json;

// Strict: duplicate keys, nesting beyond 100 levels and anything after the value are InputErrors
// that name `source` (a path, "header of X") with line and column.
Json parse_json(std::string_view text, const std::string& source);
Json read_json_file(const fs::path& path);

// The member `key` of `object` as T. Absent, null or of another type: InputError naming `source`.
template <typename T>
T json_member(const Json& object, const char* key, const std::string& source);
// As above, `fallback` where the member is absent or null.
template <typename T>
T json_member_or(const Json& object, const char* key, const T& fallback, const std::string& source);

}  // namespace halftone
