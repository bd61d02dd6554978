#include "text/normalized_text.h"

#include <algorithm>

#include "text/pattern.h"

namespace halftone {

void TextRewriter::append(std::string_view piece, size_t source) {
  result_.text += piece;
  check_normalized_size(result_.text.size());
  if (source < from_.at_start) result_.at_start = result_.text.size();
}

void TextRewriter::keep(size_t begin, size_t end) {
  if (begin >= end) return;
  if (begin < from_.at_start) {
    result_.at_start = result_.text.size() + std::min(from_.at_start, end) - begin;
  }
  result_.text.append(from_.text, begin, end - begin);
}

}  // namespace halftone
