#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace halftone {

// The byte that a token "<0x41>" stands for.
std::optional<uint8_t> byte_of_token(std::string_view token);

// The tokens "<0x00>" to "<0xFF>" that spell what the vocabulary lacks ("byte_fallback").
class ByteTokens {
 public:
  ByteTokens() = default;
  explicit ByteTokens(const Vocabulary& vocabulary);

  // Appends the ids of all bytes, or nothing (false) where one has no token.
  bool append(std::string_view bytes, std::vector<TokenId>& ids) const;

 private:
  std::array<std::optional<TokenId>, 256> ids_;
};

}  // namespace halftone
