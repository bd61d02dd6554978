#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

struct Span {
  size_t begin = 0;
  size_t end = 0;
};

// A compiled regular expression over UTF-8, in the syntax of tokenizer.json. Matching is const and
// may run on several threads at once.
class Regex {
 public:
  // `source` names the file and the part in errors.
  Regex(const std::string& pattern, const std::string& source);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // The matches from left to right, without overlap. `text` must be valid UTF-8; nothing before or
  // after it is seen by look-around. A search that exceeds PCRE2's limits is an InputError.
  std::vector<Span> find_all(std::string_view text) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace halftone
