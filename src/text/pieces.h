#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// A part of a text that no token may cross.
struct Piece {
  std::string_view text;
  size_t at_start = 0;  // as in NormalizedText

  Piece cut(size_t begin, size_t end) const {
    return {text.substr(begin, end - begin), at_start > begin ? at_start - begin : 0};
  }
};

// The pieces of a text; they point into it, or into what a pre-tokenizer wrote instead.
class Pieces {
 public:
  explicit Pieces(Piece whole) {
    if (!whole.text.empty()) list.push_back(whole);
  }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;

  // Keeps `text` as long as the pieces live.
  std::string_view keep(std::string text) { return written_.emplace_back(std::move(text)); }

  std::vector<Piece> list;  // none is empty

 private:
  std::deque<std::string> written_;
};

}  // namespace halftone
