#include "text/special_tokens.h"

#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {

std::optional<std::string> token_content(const Json& config, const char* key,
                                         const std::string& source) {
  const auto value = config.find(key);
  if (value == config.end() || value->is_null()) return std::nullopt;
  return value->is_object() ? json_member<std::string>(*value, "content", source)
                            : json_member<std::string>(config, key, source);
}

SpecialTokens read_special_tokens(const Json& config, const std::string& source,
                                  const FindToken& find) {
  expect_object(config, source);
  const auto id_of = [&](const char* key) -> std::optional<TokenId> {
    const auto content = token_content(config, key, source);
    if (!content) return std::nullopt;
    const auto id = find(*content);
    if (!id) log_warn(source, ": ", key, " '", *content, "' is no token and is ignored");
    return id;
  };
  return {id_of("bos_token"), id_of("eos_token"), id_of("pad_token")};
}

}  // namespace halftone
