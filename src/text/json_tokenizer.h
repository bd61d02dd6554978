#pragma once

#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/special_tokens.h"
#include "text/token_model.h"
#include "text/tokenizer.h"

namespace halftone {

// What a tokenizer.json describes, part by part. All members are read only after construction, so
// encode may run on several threads.
class JsonTokenizer : public Tokenizer {
 public:
  // `file` is the tokenizer.json, `config` the tokenizer_config.json (an empty object without one);
  // the sources are their names in errors.
  JsonTokenizer(const Json& file, const std::string& source, const Json& config,
                const std::string& config_source);

  std::vector<TokenId> encode(std::string_view text, bool add_special) const override;
  std::string decode(const std::vector<TokenId>& ids, bool skip_special) const override;
  int64_t vocabulary_size() const override;
  TokenId pad_id() const override { return special_.pad(); }
  std::optional<TokenId> bos_id() const override { return special_.bos; }
  std::optional<TokenId> eos_id() const override { return special_.eos; }

 private:
  std::optional<TokenId> find_token(std::string_view token) const;
  void read_config(const Json& config, const std::string& source);
  void check_template(const std::string& source) const;
  void append_text(NormalizedText text, std::vector<TokenId>& ids) const;

  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<TokenModel> model_;
  AddedTokens added_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  PostProcessor post_processor_;
  std::unique_ptr<Decoder> decoder_;
  SpecialTokens special_;
};

}  // namespace halftone
