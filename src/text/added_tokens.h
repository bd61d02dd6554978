#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"
#include "text/normalizer.h"
#include "text/regex.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace halftone {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
  std::string normalized_content;  // what is looked for in normalized text, and what decoding shows
};

// A part of a text, from `begin` to `end`: an added token, or what lies between two of them.
struct Segment {
  size_t begin = 0;
  size_t end = 0;
  std::optional<TokenId> id;
};

// The tokens that are found in the text before the model sees it ("added_tokens"): first those that
// are not subject to normalization, then, in the normalized text between them, the others.
class AddedTokens {
 public:
  // The ids are those of the file; one that contradicts `vocabulary` is an InputError.
  AddedTokens(const Json& list, const Vocabulary& vocabulary, const Normalizer& normalizer,
              const std::string& source);

  AddedTokens(const AddedTokens&) = delete;
  AddedTokens& operator=(const AddedTokens&) = delete;

  std::vector<Segment> split_original(std::string_view text) const { return split_by(raw_, text); }
  std::vector<Segment> split_normalized(std::string_view text) const {
    return split_by(normalized_, text);
  }
  std::optional<TokenId> find(std::string_view content) const;
  // Null where the id is no added token.
  const AddedToken* token(TokenId id) const;
  // Whether decoding skips what is written so. A special token that normalization changes is kept.
  bool is_special(std::string_view content) const;
  int64_t size() const;  // largest id + 1

 private:
  // A set of tokens for leftmost-longest search.
  class Trie {
   public:
    void insert(std::string_view content, const AddedToken& token);
    // The longest token that begins at `at`.
    struct Match {
      const AddedToken* token = nullptr;
      size_t end = 0;
    };
    Match longest(std::string_view text, size_t at) const;

   private:
    std::unordered_map<uint64_t, size_t> edges_;         // by node << 8 | byte
    std::vector<const AddedToken*> tokens_ = {nullptr};  // by node
  };

  std::vector<Segment> split_by(const Trie& trie, std::string_view text) const;
  bool is_word(const Utf8Char& character) const;

  std::map<TokenId, AddedToken> by_id_;
  std::map<std::string, TokenId, std::less<>> by_content_;
  // Both point into by_id_.
  Trie raw_;
  Trie normalized_;
  Regex word_;  // a character that single_word tokens may not touch
};

}  // namespace halftone
