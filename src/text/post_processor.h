#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "text/tokenizer.h"

namespace halftone {

// The "post_processor" of tokenizer.json, as far as single texts go: the ids that it puts before
// and after the text. ByteLevel moves offsets only.
class PostProcessor {
 public:
  PostProcessor(const Json& part, const std::string& source);

  const std::vector<TokenId>& before() const { return before_; }
  const std::vector<TokenId>& after() const { return after_; }
  // What tokenizer_config.json asks for (add_bos_token), where the template has it not yet.
  void ensure_first(TokenId id);
  void ensure_last(TokenId id);

 private:
  void add(const Json& part, const std::string& source);
  void add_template(const Json& part, const std::string& source);
  void add_pair(const Json& part, const std::string& source);
  void wrap(const std::vector<TokenId>& before, const std::vector<TokenId>& after);

  std::vector<TokenId> before_;
  std::vector<TokenId> after_;
};

}  // namespace halftone
