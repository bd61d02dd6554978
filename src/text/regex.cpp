#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "core/error.h"
#include "core/log.h"
#include "kernels/check.h"
#include "text/regex_syntax.h"
#include "text/utf8.h"

namespace halftone {
namespace {

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

std::string pcre2_text(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> compiled{nullptr, &pcre2_code_free};
  std::string pattern;
  std::string source;

  // The first match at or after `start`; false if there is none.
  bool search(std::string_view text, size_t start, pcre2_match_data* data, Span& found) const;
};

Regex::Regex(const std::string& pattern, const std::string& source)
    : code_(std::make_unique<Code>()) {
  code_->pattern = pattern;
  code_->source = source;
  // Oniguruma's ^ and $ match at every line, and only LF ends one.
  const std::string translated = "(*LF)" + oniguruma_to_pcre2(pattern, source);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->compiled.reset(pcre2_compile(units(translated), translated.size(),
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset,
                                      nullptr));
  if (!code_->compiled) {
    throw InputError(concat(source, ": the regular expression '", pattern,
                            "' cannot be compiled: ", pcre2_text(error)));
  }
  // Without a compiler for this processor the interpreter matches; the result says nothing else.
  static_cast<void>(pcre2_jit_compile(code_->compiled.get(), PCRE2_JIT_COMPLETE));
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

bool Regex::Code::search(std::string_view text, size_t start, pcre2_match_data* data,
                         Span& found) const {
  // PCRE2 before 10.38 takes no null subject, and an empty view may have no data.
  const std::string_view subject = text.data() == nullptr ? std::string_view("") : text;
  int result = pcre2_match(compiled.get(), units(subject), subject.size(), start,
                           PCRE2_NO_UTF_CHECK, data, nullptr);
  // The interpreter keeps its state on the heap: it goes on where the compiled code's stack ends.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
    result = pcre2_match(compiled.get(), units(subject), subject.size(), start,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, nullptr);
  }
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    throw InputError(concat(source, ": the regular expression '", pattern,
                            "' gave up on a text of ", text.size(),
                            " bytes: ", pcre2_text(result)));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
  found = {ends[0], ends[1]};
  return true;
}

std::vector<Span> Regex::find_all(std::string_view text) const {
  const MatchData data(pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  check(data != nullptr, "PCRE2 allocates match data");
  std::vector<Span> matches;
  Span found;
  size_t start = 0;
  while (start <= text.size() && code_->search(text, start, data.get(), found)) {
    const bool empty = found.begin == found.end;
    // An empty match right behind the last match is skipped together with one character.
    if (!empty || matches.empty() || found.end != matches.back().end) {
      matches.push_back(found);
      start = found.end;
      continue;
    }
    if (start == text.size()) break;
    start += utf8_char_at(text, start).bytes;
  }
  return matches;
}

}  // namespace halftone
