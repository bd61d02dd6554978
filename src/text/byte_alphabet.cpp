#include "text/byte_alphabet.h"

#include "text/utf8.h"

namespace halftone {

const ByteAlphabet& ByteAlphabet::instance() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    const char32_t code = printable ? static_cast<char32_t>(byte) : next++;
    append_utf8(code, characters_[static_cast<size_t>(byte)]);
    bytes_[code] = byte;
  }
}

void ByteAlphabet::append_encoded(std::string_view bytes, std::string& text) const {
  for (const char byte : bytes) text += characters_[static_cast<unsigned char>(byte)];
}

std::optional<std::string> ByteAlphabet::decode(std::string_view text) const {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = utf8_char_at(text, at);
    if (!next.valid || next.code >= kCodes || bytes_[next.code] < 0) return std::nullopt;
    bytes += static_cast<char>(bytes_[next.code]);
    at += next.bytes;
  }
  return bytes;
}

}  // namespace halftone
