#include "text/pattern.h"

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {

Pattern::Pattern(const Json& part, const std::string& source) {
  const Json& pattern = object_member(part, "pattern", source);
  if (pattern.contains("String")) {
    literal_ = json_member<std::string>(pattern, "String", source);
    // The empty text is found between all characters.
    if (literal_.empty()) regex_.emplace("", source);
  } else {
    regex_.emplace(json_member<std::string>(pattern, "Regex", source), source);
  }
}

std::vector<Span> Pattern::find_all(std::string_view text) const {
  if (text.empty()) return {};
  if (regex_) return regex_->find_all(text);
  std::vector<Span> matches;
  for (size_t at = text.find(literal_); at != std::string_view::npos;
       at = text.find(literal_, at + literal_.size())) {
    matches.push_back({at, at + literal_.size()});
  }
  return matches;
}

std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content) {
  std::string result;
  size_t done = 0;
  for (const Span match : pattern.find_all(text)) {
    result += text.substr(done, match.begin - done);
    result += content;
    done = match.end;
    check_normalized_size(result.size());
  }
  result += text.substr(done);
  return result;
}

void check_normalized_size(size_t bytes) {
  if (bytes <= kMaxNormalizedBytes) return;
  throw InputError(concat("the tokenizer's rules make more than ", kMaxNormalizedBytes,
                          " bytes of the text: is tokenizer.json damaged?"));
}

}  // namespace halftone
