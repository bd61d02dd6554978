#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"
#include "text/byte_tokens.h"
#include "text/token_model.h"
#include "text/vocabulary.h"

namespace halftone {

// Byte-pair encoding, over the characters of a piece: merges the pair of the lowest rank until no
// pair has one.
class Bpe : public TokenModel {
 public:
  Bpe(const Json& model, const std::string& source);

  const Vocabulary& vocabulary() const override { return vocabulary_; }
  // O(n log n).
  void append_ids(std::string_view piece, std::vector<TokenId>& ids) const override;

 private:
  struct Merge {
    uint32_t rank = 0;
    TokenId result = 0;
  };

  void read_merges(const Json& merges, const std::string& source);
  const Merge* find_merge(TokenId left, TokenId right) const;
  TokenId unknown_id() const;
  std::vector<TokenId> character_ids(std::string_view piece) const;
  void merge(std::vector<TokenId>& symbols) const;

  Vocabulary vocabulary_;
  std::string source_;
  std::unordered_map<uint64_t, Merge> merges_;  // by left << 32 | right
  std::optional<ByteTokens> byte_tokens_;       // with byte_fallback
  std::string unknown_;                         // empty: what has no token is dropped
  std::string continuing_prefix_;               // written before every character but the first
  std::string end_suffix_;                      // written behind the last one
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

}  // namespace halftone
