#pragma once

#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace halftone {

// The text of tokens that come one by one, up to the first of some stop strings. Special tokens are
// left out.
class TextStream {
 public:
  // `tokenizer` outlives this.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops);

  // What the token adds to the text, as far as it is certain: whole characters, and nothing that
  // may be the beginning of a stop string.
  std::string add(TokenId id);
  // What was held back, when no token follows.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::string released(bool last);

  const Tokenizer& tokenizer_;
  std::vector<std::string> stops_;
  std::vector<TokenId> ids_;
  size_t prefix_ = 0;  // ids from here on are decoded together
  size_t read_ = 0;    // the text of those in front is known
  std::string held_;
  bool stopped_ = false;
};

}  // namespace halftone
