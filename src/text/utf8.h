#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace halftone {

// The character that begins at a byte of a text. Where the bytes are no UTF-8, `valid` is false and
// `bytes` counts the longest prefix of a character that is there (at least 1): what one U+FFFD
// stands for in lossy decoding.
struct Utf8Char {
  char32_t code = 0;
  size_t bytes = 0;
  bool valid = false;
};

// `at` must be less than the size of the text.
Utf8Char utf8_char_at(std::string_view text, size_t at);
// The last character before `end`, which must be more than 0; the text must be valid.
Utf8Char utf8_char_before(std::string_view text, size_t end);
void append_utf8(char32_t code, std::string& text);

// The offset of the first byte that belongs to no character; npos in valid text. Overlong forms,
// surrogates and codes above U+10FFFF are invalid.
size_t first_invalid_utf8(std::string_view text);
// Every invalid sequence becomes one U+FFFD, as few as the Unicode standard recommends.
std::string lossy_utf8(std::string_view bytes);

// The property White_Space.
bool is_white_space(char32_t code);
// Where the white space ends that begins at `at`, and where that begins which ends at `end`.
size_t skip_space(std::string_view text, size_t at);
size_t skip_space_back(std::string_view text, size_t end);

}  // namespace halftone
