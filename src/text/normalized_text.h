#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace halftone {

// A text between its added tokens while it is normalized.
struct NormalizedText {
  std::string text;
  // How many of its first bytes stand for the first character of the whole original text; 0 where
  // that is not in this part or was removed. Metaspace's "first" asks.
  size_t at_start = 0;
};

// Builds the next state of a text from its parts.
class TextRewriter {
 public:
  explicit TextRewriter(const NormalizedText& from) : from_(from) {}

  // `piece` stands for what is at byte `source` of the text.
  void append(std::string_view piece, size_t source);
  // The part from `begin` to `end` of the text, as it is.
  void keep(size_t begin, size_t end);
  NormalizedText take() { return std::move(result_); }

 private:
  const NormalizedText& from_;
  NormalizedText result_;
};

}  // namespace halftone
