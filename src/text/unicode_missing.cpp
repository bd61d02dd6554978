// Instead of unicode.cpp in a build without ICU.
#include "core/error.h"
#include "core/log.h"
#include "text/unicode.h"

namespace halftone {
namespace {

[[noreturn]] void refuse(const std::string& source) {
  throw InputError(concat(source,
                          ": this part needs ICU, and this program was built without it: install "
                          "libicu-dev and build again"));
}

}  // namespace

void require_unicode_tables(const std::string& source) {
  refuse(source);
}
std::string to_normal_form(std::string_view /*text*/, NormalForm /*form*/) {
  refuse("normal forms");
}
void append_lower_case(char32_t /*code*/, std::string& /*text*/) {
  refuse("lower case");
}
std::string unicode_lower_case(std::string_view /*text*/) {
  refuse("lower case beyond ASCII");
}
std::string unicode_upper_case(std::string_view /*text*/) {
  refuse("upper case beyond ASCII");
}
bool is_printable(char32_t /*code*/) {
  refuse("Python's repr() beyond ASCII");
}
bool is_letter(char32_t /*code*/) {
  refuse("letters beyond ASCII");
}
NumericType numeric_type(char32_t /*code*/) {
  refuse("digits beyond ASCII");
}
bool is_combining_mark(char32_t /*code*/) {
  refuse("combining marks");
}
bool is_punctuation(char32_t /*code*/) {
  refuse("punctuation");
}
std::vector<size_t> grapheme_ends(std::string_view /*text*/) {
  refuse("graphemes");
}

}  // namespace halftone
