#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "text/tokenizer.h"

namespace halftone {

// The keys of tokens with a role in tokenizer_config.json and special_tokens_map.json.
constexpr std::array<const char*, 7> kTokenRoles{"bos_token", "eos_token", "unk_token", "pad_token",
                                                 "sep_token", "cls_token", "mask_token"};

// What tokenizer_config.json says of the tokens with a role.
struct SpecialTokens {
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::optional<TokenId> configured_pad;

  // Falls back to eos, to bos, then to 0.
  TokenId pad() const { return configured_pad.value_or(eos.value_or(bos.value_or(0))); }
};

using FindToken = std::function<std::optional<TokenId>(std::string_view token)>;

// A token that `find` does not know is ignored with a warning.
SpecialTokens read_special_tokens(const Json& config, const std::string& source,
                                  const FindToken& find);
// The text of "<s>" or {"content": "<s>", ...}; nothing where the key is absent or null.
std::optional<std::string> token_content(const Json& config, const char* key,
                                         const std::string& source);

}  // namespace halftone
