#include "core/embedded.h"

#include <cstdint>

namespace {
struct Entry {
  const char* name;
  const char* begin;
  const char* end;
};
}  // namespace

// Made by configs/embed.cmake.
extern "C" const Entry halftone_embedded_files[];
extern "C" const uint64_t halftone_embedded_count;

namespace halftone {

std::vector<EmbeddedFile> embedded_files() {
  std::vector<EmbeddedFile> files;
  for (uint64_t i = 0; i < halftone_embedded_count; ++i) {
    const Entry& entry = halftone_embedded_files[i];
    files.push_back({entry.name, {entry.begin, static_cast<size_t>(entry.end - entry.begin)}});
  }
  return files;
}

std::string_view embedded_file(std::string_view name) {
  for (const EmbeddedFile& file : embedded_files()) {
    if (file.name == name) return file.content;
  }
  return {};
}

}  // namespace halftone
