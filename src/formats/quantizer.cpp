#include "formats/quantizer.h"

#include <algorithm>

namespace halftone {
namespace {

// Where the set that begins at pattern[begin] == '[' ends: the place of its ']', or npos when the
// bracket stands for itself. A ']' right at the beginning belongs to the set.
size_t set_end(std::string_view pattern, size_t begin) {
  size_t i = begin + 1;
  if (i < pattern.size() && pattern[i] == '!') ++i;
  if (i < pattern.size() && pattern[i] == ']') ++i;
  return pattern.find(']', i);
}

bool set_holds(std::string_view set, char c) {
  const bool negated = !set.empty() && set.front() == '!';
  if (negated) set.remove_prefix(1);
  bool found = false;
  for (size_t i = 0; i < set.size(); ++i) {
    if (i + 2 < set.size() && set[i + 1] == '-') {
      found = found || (set[i] <= c && c <= set[i + 2]);
      i += 2;
    } else {
      found = found || set[i] == c;
    }
  }
  return found != negated;
}

// Whether the element at pattern[p], which is no '*', matches c; `next` is behind the element.
bool element_matches(std::string_view pattern, size_t p, char c, size_t& next) {
  next = p + 1;
  if (pattern[p] == '?') return true;
  if (pattern[p] == '[') {
    const size_t end = set_end(pattern, p);
    if (end != std::string_view::npos) {
      next = end + 1;
      return set_holds(pattern.substr(p + 1, end - p - 1), c);
    }
  }
  return pattern[p] == c;
}

}  // namespace

bool QuantizerSequence::enabled() const {
  return std::any_of(stages.begin(), stages.end(), [](const Quantizer& q) { return q.enable; });
}

// Only the last '*' ever needs to be tried anew: an earlier one that took more could not help.
bool glob_matches(std::string_view pattern, std::string_view name) {
  constexpr size_t kNone = std::string_view::npos;
  size_t p = 0;
  size_t n = 0;
  size_t star = kNone;
  size_t star_name = 0;
  while (n < name.size()) {
    size_t next = 0;
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
    } else if (p < pattern.size() && element_matches(pattern, p, name[n], next)) {
      p = next;
      ++n;
    } else if (star != kNone) {
      p = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace halftone
