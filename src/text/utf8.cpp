#include "text/utf8.h"

namespace halftone {
namespace {

uint8_t byte_at(std::string_view text, size_t at) {
  return static_cast<uint8_t>(text[at]);
}

// What a first byte announces: how many bytes follow, and which second bytes keep the form shortest
// and out of the surrogates and of codes above U+10FFFF.
struct Lead {
  size_t followers = 0;
  uint8_t second_min = 0x80;
  uint8_t second_max = 0xBF;
};

bool read_lead(uint8_t byte, Lead& lead) {
  if (byte < 0x80) {
    lead.followers = 0;
  } else if (byte >= 0xC2 && byte <= 0xDF) {
    lead.followers = 1;
  } else if (byte >= 0xE0 && byte <= 0xEF) {
    lead.followers = 2;
    if (byte == 0xE0) lead.second_min = 0xA0;
    if (byte == 0xED) lead.second_max = 0x9F;
  } else if (byte >= 0xF0 && byte <= 0xF4) {
    lead.followers = 3;
    if (byte == 0xF0) lead.second_min = 0x90;
    if (byte == 0xF4) lead.second_max = 0x8F;
  } else {
    return false;
  }
  return true;
}

}  // namespace

Utf8Char utf8_char_at(std::string_view text, size_t at) {
  Utf8Char result;
  result.bytes = 1;
  const uint8_t first = byte_at(text, at);
  Lead lead;
  if (!read_lead(first, lead)) return result;
  result.code = lead.followers == 0 ? first : first & (0x3F >> lead.followers);
  for (size_t i = 1; i <= lead.followers; ++i) {
    if (at + i >= text.size()) return result;
    const uint8_t byte = byte_at(text, at + i);
    const uint8_t low = i == 1 ? lead.second_min : 0x80;
    const uint8_t high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) return result;
    result.code = (result.code << 6) | (byte & 0x3F);
    ++result.bytes;
  }
  result.valid = true;
  return result;
}

Utf8Char utf8_char_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (byte_at(text, begin) & 0xC0) == 0x80) --begin;
  return utf8_char_at(text, begin);
}

void append_utf8(char32_t code, std::string& text) {
  const auto add = [&text](char32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0 | (code >> 6));
    add(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    add(0xE0 | (code >> 12));
    add(0x80 | ((code >> 6) & 0x3F));
    add(0x80 | (code & 0x3F));
  } else {
    add(0xF0 | (code >> 18));
    add(0x80 | ((code >> 12) & 0x3F));
    add(0x80 | ((code >> 6) & 0x3F));
    add(0x80 | (code & 0x3F));
  }
}

size_t first_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = utf8_char_at(text, at);
    if (!next.valid) return at;
    at += next.bytes;
  }
  return std::string_view::npos;
}

std::string lossy_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Char next = utf8_char_at(bytes, at);
    if (next.valid) {
      text.append(bytes.substr(at, next.bytes));
    } else {
      append_utf8(0xFFFD, text);
    }
    at += next.bytes;
  }
  return text;
}

bool is_white_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

size_t skip_space_back(std::string_view text, size_t end) {
  while (end > 0) {
    const Utf8Char last = utf8_char_before(text, end);
    if (!is_white_space(last.code)) break;
    end -= last.bytes;
  }
  return end;
}

size_t skip_space(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Char next = utf8_char_at(text, at);
    if (!is_white_space(next.code)) break;
    at += next.bytes;
  }
  return at;
}

}  // namespace halftone
