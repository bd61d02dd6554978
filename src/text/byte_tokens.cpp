#include "text/byte_tokens.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace halftone {

std::optional<uint8_t> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  uint8_t byte = 0;
  // As the reference reads them, "+A" counts.
  const size_t digits = token[3] == '+' ? 4 : 3;
  const char* end = token.data() + 5;
  const auto [rest, error] = std::from_chars(token.data() + digits, end, byte, 16);
  if (error != std::errc() || rest != end) return std::nullopt;
  return byte;
}

ByteTokens::ByteTokens(const Vocabulary& vocabulary) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (size_t byte = 0; byte < ids_.size(); ++byte) {
    const std::string token = {'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
    ids_[byte] = vocabulary.find(token);
  }
}

bool ByteTokens::append(std::string_view bytes, std::vector<TokenId>& ids) const {
  const auto id_of = [this](char byte) { return ids_[static_cast<unsigned char>(byte)]; };
  if (!std::all_of(bytes.begin(), bytes.end(), [&](char c) { return id_of(c).has_value(); })) {
    return false;
  }
  for (const char byte : bytes) ids.push_back(*id_of(byte));
  return true;
}

}  // namespace halftone
