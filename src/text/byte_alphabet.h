#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace halftone {

// The 256 printable characters that stand for the bytes in byte-level vocabularies: a printable
// Latin-1 byte is itself, the others follow from U+0100 on (the space is U+0120).
class ByteAlphabet {
 public:
  static const ByteAlphabet& instance();

  const std::string& character(unsigned char byte) const { return characters_[byte]; }
  void append_encoded(std::string_view bytes, std::string& text) const;
  // Nothing where `text` holds a character outside the alphabet.
  std::optional<std::string> decode(std::string_view text) const;

 private:
  ByteAlphabet();

  static constexpr size_t kCodes = 0x144;
  std::array<std::string, 256> characters_;
  std::array<int, kCodes> bytes_;  // of a code, -1 outside the alphabet
};

}  // namespace halftone
