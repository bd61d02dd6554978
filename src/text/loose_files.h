#pragma once

#include <string>

#include "core/files.h"
#include "core/json.h"
#include "text/special_tokens.h"

namespace halftone {

// The files around a tokenizer that is no tokenizer.json.
struct TokenizerFolder {
  fs::path directory;
  Json config;                // tokenizer_config.json with special_tokens_map.json; may be empty
  std::string config_source;  // its name in errors

  // "tokenizer_class" without "Fast"; empty where nothing names it.
  std::string tokenizer_class() const;
};

TokenizerFolder read_tokenizer_folder(const fs::path& directory);

// The tokens that are found in texts before the model sees them, as "added_tokens" of a
// tokenizer.json has them: added_tokens_decoder of the configuration, added_tokens.json and the
// tokens with a role. `find` gives the ids of the model's tokens.
Json collect_added_tokens(const TokenizerFolder& folder, const FindToken& find);

}  // namespace halftone
