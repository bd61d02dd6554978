#include "text/unicode.h"

#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/casemap.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/utext.h>

#include <memory>

#include "kernels/check.h"
#include "text/utf8.h"

namespace halftone {

namespace {

void check_icu(UErrorCode status, const char* what) {
  check(U_SUCCESS(status) != 0, what);
}

icu::UnicodeSet make_set(const char* pattern) {
  UErrorCode status = U_ZERO_ERROR;
  icu::UnicodeSet set(icu::UnicodeString::fromUTF8(pattern), status);
  check_icu(status, "ICU knows the properties of a set");
  set.freeze();
  return set;
}

const icu::UnicodeSet& normalized_characters() {
  static const icu::UnicodeSet set = make_set("[:age=9.0:]");
  return set;
}

const icu::Normalizer2& normalizer_of(NormalForm form) {
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool composed = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = icu::Normalizer2::getInstance(
      nullptr, compatible ? "nfkc" : "nfc", composed ? UNORM2_COMPOSE : UNORM2_DECOMPOSE, status);
  check_icu(status, "ICU has the normal forms");
  return *normalizer;
}

}  // namespace

void require_unicode_tables(const std::string& /*source*/) {}

std::string to_normal_form(std::string_view text, NormalForm form) {
  const icu::FilteredNormalizer2 normalizer(normalizer_of(form), normalized_characters());
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  UErrorCode status = U_ZERO_ERROR;
  normalizer.normalizeUTF8(0, {text.data(), static_cast<int32_t>(text.size())}, sink, nullptr,
                           status);
  check_icu(status, "ICU normalizes a text");
  return result;
}

// The lower case of a character alone: only U+0130 becomes two.
void append_lower_case(char32_t code, std::string& text) {
  constexpr char32_t kCapitalIWithDot = 0x130;
  if (code == kCapitalIWithDot) {
    text += "i\xCC\x87";
  } else {
    append_utf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(code))), text);
  }
}

std::string unicode_lower_case(std::string_view text) {
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  UErrorCode status = U_ZERO_ERROR;
  icu::CaseMap::utf8ToLower("", 0, {text.data(), static_cast<int32_t>(text.size())}, sink, nullptr,
                            status);
  check_icu(status, "ICU lowers a text");
  return result;
}

std::string unicode_upper_case(std::string_view text) {
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  UErrorCode status = U_ZERO_ERROR;
  icu::CaseMap::utf8ToUpper("", 0, {text.data(), static_cast<int32_t>(text.size())}, sink, nullptr,
                            status);
  check_icu(status, "ICU raises a text");
  return result;
}

bool is_printable(char32_t code) {
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & (U_GC_C_MASK | U_GC_Z_MASK)) == 0;
}

bool is_letter(char32_t code) {
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_L_MASK) != 0;
}

NumericType numeric_type(char32_t code) {
  switch (u_getIntPropertyValue(static_cast<UChar32>(code), UCHAR_NUMERIC_TYPE)) {
    case U_NT_DECIMAL:
      return NumericType::kDecimal;
    case U_NT_DIGIT:
      return NumericType::kDigit;
    case U_NT_NUMERIC:
      return NumericType::kNumeric;
    default:
      return NumericType::kNone;
  }
}

bool is_combining_mark(char32_t code) {
  static const icu::UnicodeSet marks =
      make_set("[[[[:M:]&[:age=9.0:]][\\u1CF2\\u1CF3]]-[\\U000111C9]]");
  return marks.contains(static_cast<UChar32>(code)) != 0;
}

bool is_punctuation(char32_t code) {
  // U+166D and U+111C9 were punctuation then. The ASCII symbols count, too.
  static const icu::UnicodeSet punctuation =
      make_set("[[[:P:]&[:age=8.0:]]\\u166D\\U000111C9[!-/][\\:-@][\\[-`][\\{-~]]");
  return punctuation.contains(static_cast<UChar32>(code)) != 0;
}

std::vector<size_t> grapheme_ends(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  static const std::unique_ptr<const icu::BreakIterator> prototype(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
  check_icu(status, "ICU has the rules of graphemes");
  const std::unique_ptr<icu::BreakIterator> breaks(prototype->clone());
  const std::unique_ptr<UText, decltype(&utext_close)> view(
      utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &status),
      &utext_close);
  check_icu(status, "ICU opens a text");
  breaks->setText(view.get(), status);
  check_icu(status, "ICU takes a text");
  std::vector<size_t> ends;
  breaks->first();
  for (int32_t end = breaks->next(); end != icu::BreakIterator::DONE; end = breaks->next()) {
    ends.push_back(static_cast<size_t>(end));
  }
  return ends;
}

}  // namespace halftone
