#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace halftone::jinja {

// Python's str, over UTF-8 that must be valid: positions and lengths count code points.

bool is_python_space(char32_t code);
size_t skip_python_space(std::string_view text, size_t at);
size_t skip_python_space_back(std::string_view text, size_t end);

size_t code_points(std::string_view text);
// Where each code point begins, and the end.
std::vector<size_t> code_point_offsets(std::string_view text);

// Where `part` is at or behind `from`, npos without it; in linear time.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);

// Without the white space, or without any of `characters`, at the start and the end.
enum class Ends { kStart, kEnd, kBoth };
std::string_view strip(std::string_view text, std::optional<std::string_view> characters,
                       Ends ends);

// At every `separator`, or at runs of white space; at most `limit` times where it is not negative.
// `from_end` counts from there.
std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit,
                                    bool from_end);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

// ASCII without ICU, all characters with it (unicode.h).
std::string upper_case(std::string_view text);
std::string lower_case(std::string_view text);
std::string capitalize(std::string_view text);

std::string escape_html(std::string_view text);
// The escapes of a literal, as Python has them.
std::string unescape(std::string_view literal);

}  // namespace halftone::jinja
