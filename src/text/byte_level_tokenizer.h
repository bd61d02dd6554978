#pragma once

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace halftone {

// BPE over bytes: GPT-2, Llama 3 and 4, Qwen, DeepSeek and most families after them. All members
// are read only after construction, so encode may run on several threads.
class ByteLevelTokenizer : public Tokenizer {
 public:
  // `file` is the tokenizer.json, `config` the tokenizer_config.json (an empty object without one);
  // the sources are their names in errors.
  ByteLevelTokenizer(const Json& file, const std::string& source, const Json& config,
                     const std::string& config_source);

  std::vector<TokenId> encode(std::string_view text, bool add_special) const override;
  std::string decode(const std::vector<TokenId>& ids, bool skip_special) const override;
  int64_t vocabulary_size() const override;
  TokenId pad_id() const override { return pad_; }
  std::optional<TokenId> bos_id() const override { return bos_; }
  std::optional<TokenId> eos_id() const override { return eos_; }

 private:
  std::optional<TokenId> find_token(std::string_view token) const;
  std::optional<TokenId> configured_token(const Json& config, const char* key,
                                          const std::string& source) const;
  void read_config(const Json& config, const std::string& source);
  void check_template(const std::string& source) const;

  Bpe bpe_;
  AddedTokens added_;
  PreTokenizer pre_tokenizer_;
  PostProcessor post_processor_;
  std::optional<TokenId> bos_;
  std::optional<TokenId> eos_;
  TokenId pad_ = 0;
};

}  // namespace halftone
