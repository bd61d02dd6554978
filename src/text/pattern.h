#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/regex.h"

namespace halftone {

// What Split and Replace look for: {"String": text} or {"Regex": expression}.
class Pattern {
 public:
  Pattern(const Json& part, const std::string& source);

  // The matches from left to right, without overlap; none in an empty text.
  std::vector<Span> find_all(std::string_view text) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;  // where the pattern is not a plain text
};

// `text` with `content` in the place of every match. A result beyond kMaxNormalizedBytes is an
// InputError.
std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content);

// No text that somebody wrote becomes as long: a damaged or hostile rule makes it so.
constexpr size_t kMaxNormalizedBytes = size_t{1} << 30;
void check_normalized_size(size_t bytes);

}  // namespace halftone
