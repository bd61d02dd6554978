#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/vocabulary.h"

namespace halftone {

// The "model" of tokenizer.json: cuts a piece of text into tokens. Const after construction.
class TokenModel {
 public:
  TokenModel() = default;
  TokenModel(const TokenModel&) = delete;
  TokenModel& operator=(const TokenModel&) = delete;
  virtual ~TokenModel() = default;

  virtual const Vocabulary& vocabulary() const = 0;
  // Appends the ids of one piece, which is not empty.
  virtual void append_ids(std::string_view piece, std::vector<TokenId>& ids) const = 0;
};

// `source` names the file in errors.
std::unique_ptr<TokenModel> make_token_model(const Json& part, const std::string& source);

}  // namespace halftone
