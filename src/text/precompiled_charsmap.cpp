#include "text/precompiled_charsmap.h"

#include <openssl/evp.h>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace halftone {
namespace {

// Longer graphemes are looked up character by character.
constexpr size_t kMaxGraphemeBytes = 5;

uint32_t little_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// The fields of a unit of the double array.
uint32_t label_of(uint32_t unit) {
  return unit & ((uint32_t{1} << 31) | 0xFF);
}
bool has_value(uint32_t unit) {
  return ((unit >> 8) & 1) != 0;
}
uint32_t value_of(uint32_t unit) {
  return unit & ((uint32_t{1} << 31) - 1);
}
uint32_t offset_of(uint32_t unit) {
  return (unit >> 10) << ((unit & (uint32_t{1} << 9)) >> 6);
}

std::string from_base64(const std::string& text, const std::string& source) {
  std::string bytes(text.size() / 4 * 3, '\0');
  const bool whole = text.size() % 4 == 0 && text.size() < (size_t{1} << 30);
  const int length = !whole ? -1
                            : EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                              reinterpret_cast<const unsigned char*>(text.data()),
                                              static_cast<int>(text.size()));
  if (length < 0) throw InputError(concat(source, ": 'precompiled_charsmap' is not base64"));
  bytes.resize(static_cast<size_t>(length));
  // OpenSSL counts the padding as zero bytes.
  for (size_t i = 0; i < 2 && i < text.size() && text[text.size() - 1 - i] == '='; ++i) {
    bytes.pop_back();
  }
  return bytes;
}

}  // namespace

PrecompiledCharsmap::PrecompiledCharsmap(std::string_view blob, const std::string& source) {
  require_unicode_tables(source);
  const size_t size = blob.size() < 4 ? 0 : little_endian(blob);
  if (size < 4 || size % 4 != 0 || size > blob.size() - 4) {
    throw InputError(concat(source, ": 'precompiled_charsmap' of ", blob.size(),
                            " bytes announces a table of ", size));
  }
  for (size_t at = 4; at < 4 + size; at += 4) {
    units_.push_back(little_endian(blob.substr(at, 4)));
  }
  replacements_ = blob.substr(4 + size);
  if (first_invalid_utf8(replacements_) != std::string_view::npos) {
    throw InputError(concat(source, ": the replacements of 'precompiled_charsmap' are not UTF-8"));
  }
}

std::optional<std::string_view> PrecompiledCharsmap::find(std::string_view text) const {
  size_t node = offset_of(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return std::nullopt;
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) return std::nullopt;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (node >= units_.size()) return std::nullopt;
    const size_t begin = value_of(units_[node]);
    // A value inside of a character comes from a damaged file.
    if (begin >= replacements_.size() || (replacements_[begin] & 0xC0) == 0x80) return std::nullopt;
    const std::string_view rest = std::string_view(replacements_).substr(begin);
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

void PrecompiledCharsmap::apply(NormalizedText& text) const {
  const std::string_view all = text.text;
  TextRewriter rewriter(text);
  // Where characters are removed at the start, the reference counts the next one as the first.
  bool any = false;
  const auto append = [&](std::string_view piece, size_t at) {
    if (piece.empty()) return;
    rewriter.append(piece, any ? at : 0);
    any = true;
  };
  size_t begin = 0;
  for (const size_t end : grapheme_ends(all)) {
    const std::string_view grapheme = all.substr(begin, end - begin);
    const auto whole = grapheme.size() <= kMaxGraphemeBytes ? find(grapheme) : std::nullopt;
    if (whole) append(*whole, begin);
    for (size_t at = whole ? end : begin; at < end;) {
      const std::string_view character = all.substr(at, utf8_char_at(all, at).bytes);
      append(find(character).value_or(character), at);
      at += character.size();
    }
    begin = end;
  }
  text = rewriter.take();
}

std::unique_ptr<Normalizer> make_precompiled(const Json& part, const std::string& source) {
  const auto text = json_member<std::string>(part, "precompiled_charsmap", source);
  return std::make_unique<PrecompiledCharsmap>(from_base64(text, source), source);
}

}  // namespace halftone
