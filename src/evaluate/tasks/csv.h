#pragma once

#include <string>
#include <vector>

#include "core/files.h"

namespace halftone {

// The records of a comma-separated file (RFC 4180: fields in quotes may hold commas, line breaks
// and doubled quotes), each of exactly `fields` fields. Anything else is an InputError with file
// and line.
std::vector<std::vector<std::string>> read_csv(const fs::path& path, size_t fields);

}  // namespace halftone
