#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// Unicode's algorithms and tables, from ICU. The tables are those of the versions that the
// reference was made with: characters that came later are left as they are.

// InputError naming `source` where the program was built without ICU. Whatever calls the functions
// below asks first, when the tokenizer is read.
void require_unicode_tables(const std::string& source);

// `text` must be valid UTF-8, in all of them.
std::string to_normal_form(std::string_view text, NormalForm form);
void append_lower_case(char32_t code, std::string& text);
// Of whole texts, with what depends on the neighbours and becomes several characters.
std::string unicode_lower_case(std::string_view text);
std::string unicode_upper_case(std::string_view text);
// Neither a control, a format character, unassigned nor white space; as Python's isprintable().
bool is_printable(char32_t code);
bool is_letter(char32_t code);
enum class NumericType { kNone, kDecimal, kDigit, kNumeric };
NumericType numeric_type(char32_t code);
bool is_combining_mark(char32_t code);
bool is_punctuation(char32_t code);
// Where the characters as a reader sees them (extended grapheme clusters) end.
std::vector<size_t> grapheme_ends(std::string_view text);

}  // namespace halftone
