#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json.h"
#include "text/tokenizer.h"

namespace halftone {

// The model's tokens, as written in the file, and their ids.
class Vocabulary {
 public:
  // `vocab` maps tokens to ids; two tokens of one id are an InputError.
  Vocabulary(const Json& vocab, const std::string& source);
  // The token at index i has the id i; of two equal ones the later is found.
  explicit Vocabulary(std::vector<std::string> tokens);
  // ids_ points into tokens_.
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  std::optional<TokenId> find(std::string_view token) const;
  // Null where no token has the id.
  const std::string* token(TokenId id) const;
  int64_t size() const { return static_cast<int64_t>(slots_.size()); }  // largest id + 1

 private:
  std::vector<std::string> tokens_;  // in the order of the file
  std::vector<int32_t> slots_;       // by id: where in tokens_, -1 for a gap
  std::unordered_map<std::string_view, TokenId> ids_;
};

}  // namespace halftone
