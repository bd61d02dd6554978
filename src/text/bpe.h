#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace halftone {

// Byte-pair encoding over the byte alphabet: the "model" of tokenizer.json.
class Bpe {
 public:
  Bpe(const Json& model, const std::string& source);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  // Appends the ids of one word of the pre-tokenizer, given as plain bytes. O(n log n).
  void append_ids(std::string_view word, std::vector<TokenId>& ids) const;

 private:
  struct Merge {
    uint32_t rank = 0;
    TokenId result = 0;
  };

  void read_merges(const Json& merges, const std::string& source);
  const Merge* find_merge(TokenId left, TokenId right) const;
  std::vector<TokenId> byte_ids(std::string_view word) const;
  void merge(std::vector<TokenId>& symbols) const;

  Vocabulary vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;     // by left << 32 | right
  std::array<std::optional<TokenId>, 256> bytes_;  // ids of the single bytes
  std::optional<TokenId> unknown_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

}  // namespace halftone
