#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_tokens.h"
#include "text/token_model.h"
#include "text/vocabulary.h"

namespace halftone {

// The unigram language model of SentencePiece: of all ways to cut a piece the one whose tokens have
// the highest sum of scores.
class Unigram : public TokenModel {
 public:
  Unigram(const Json& model, const std::string& source);

  const Vocabulary& vocabulary() const override { return vocabulary_; }
  void append_ids(std::string_view piece, std::vector<TokenId>& ids) const override;

 private:
  // The best way to the end of a prefix of the piece: its last token.
  struct Step {
    size_t begin = SIZE_MAX;
    double score = 0.0;
    bool unknown = false;
  };

  TokenId unknown_id() const;
  std::vector<Step> best_steps(std::string_view piece) const;
  void append_token(std::string_view token, std::vector<TokenId>& ids) const;

  Vocabulary vocabulary_;
  std::string source_;
  std::vector<double> scores_;             // by id
  std::vector<TokenId> sorted_;            // ids in the order of their tokens' bytes
  double unknown_score_ = 0.0;             // of a character without a token
  std::optional<TokenId> unknown_;         // "unk_id"
  std::optional<ByteTokens> byte_tokens_;  // with byte_fallback
};

}  // namespace halftone
