#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// Files put into the program at build: the presets ("formats/fp8.yaml", ...) and the default texts
// ("text/calib_selfwritten.jsonl", ...).
struct EmbeddedFile {
  std::string_view name;
  std::string_view content;
};
std::vector<EmbeddedFile> embedded_files();

// The content, or an empty view when there is no such file.
std::string_view embedded_file(std::string_view name);

}  // namespace halftone
