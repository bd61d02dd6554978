#include "text/jinja_text.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <unordered_set>

#include "core/log.h"
#include "text/jinja_value.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace halftone::jinja {
namespace {

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c & 0x80) == 0; });
}

std::vector<std::string_view> split_at_space(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  size_t at = skip_python_space(text, 0);
  while (at < text.size()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(text.substr(at, skip_python_space_back(text, text.size()) - at));
      return parts;
    }
    size_t end = at;
    while (end < text.size()) {
      const Utf8Char c = utf8_char_at(text, end);
      if (is_python_space(c.code)) break;
      end += c.bytes;
    }
    parts.push_back(text.substr(at, end - at));
    at = skip_python_space(text, end);
  }
  return parts;
}

std::vector<std::string_view> split_at_space_back(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  size_t end = skip_python_space_back(text, text.size());
  while (end > 0) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      const size_t start = skip_python_space(text, 0);
      parts.push_back(text.substr(start, end - start));
      break;
    }
    size_t at = end;
    while (at > 0) {
      const Utf8Char c = utf8_char_before(text, at);
      if (is_python_space(c.code)) break;
      at -= c.bytes;
    }
    parts.push_back(text.substr(at, end - at));
    end = skip_python_space_back(text, at);
  }
  std::ranges::reverse(parts);
  return parts;
}

char32_t number_of(std::string_view digits, int base, const char* what) {
  uint32_t code = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (digits.empty() || end.ptr != digits.data() + digits.size() || code > 0x10FFFF || surrogate) {
    throw Fault(concat("a text with a bad escape '\\", what, digits, "'"));
  }
  return code;
}

// At the character behind a backslash; returns what is behind the escape.
size_t append_escape(std::string_view literal, size_t at, std::string& out) {
  static constexpr std::string_view kLetters = "\\'\"abfnrtv";
  static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  const char c = literal[at];
  const size_t letter = kLetters.find(c);
  if (letter != std::string_view::npos) {
    out += kMeanings[letter];
    return at + 1;
  }
  if (c == '\n') return at + 1;
  if (c == 'x' || c == 'u' || c == 'U') {
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    const std::string_view text = literal.substr(at + 1, digits);
    if (text.size() < digits) throw Fault("a text with an escape that is cut off");
    append_utf8(number_of(text, 16, c == 'x' ? "x" : "u"), out);
    return at + 1 + digits;
  }
  if (c >= '0' && c <= '7') {
    size_t end = at + 1;
    while (end < literal.size() && end < at + 3 && literal[end] >= '0' && literal[end] <= '7')
      ++end;
    append_utf8(number_of(literal.substr(at, end - at), 8, ""), out);
    return end;
  }
  if (c == 'N') throw Fault("escapes '\\N{...}' are not supported: use '\\u'");
  out += '\\';
  return at;
}

}  // namespace

bool is_python_space(char32_t code) {
  return (code >= 0x1C && code <= 0x1F) || is_white_space(code);
}

size_t skip_python_space(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Char c = utf8_char_at(text, at);
    if (!is_python_space(c.code)) break;
    at += c.bytes;
  }
  return at;
}

size_t skip_python_space_back(std::string_view text, size_t end) {
  while (end > 0) {
    const Utf8Char c = utf8_char_before(text, end);
    if (!is_python_space(c.code)) break;
    end -= c.bytes;
  }
  return end;
}

size_t code_points(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<size_t> code_point_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size(); ++at) {
    if ((text[at] & 0xC0) != 0x80) offsets.push_back(at);
  }
  offsets.push_back(text.size());
  return offsets;
}

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

std::string_view strip(std::string_view text, std::optional<std::string_view> characters,
                       Ends ends) {
  std::unordered_set<char32_t> set;
  for (size_t at = 0; characters && at < characters->size();) {
    const Utf8Char c = utf8_char_at(*characters, at);
    set.insert(c.code);
    at += c.bytes;
  }
  const auto goes = [&](char32_t code) {
    return characters ? set.contains(code) : is_python_space(code);
  };
  size_t at = 0;
  size_t end = text.size();
  while (ends != Ends::kEnd && at < end) {
    const Utf8Char c = utf8_char_at(text, at);
    if (!goes(c.code)) break;
    at += c.bytes;
  }
  while (ends != Ends::kStart && end > at) {
    const Utf8Char c = utf8_char_before(text, end);
    if (!goes(c.code)) break;
    end -= c.bytes;
  }
  return text.substr(at, end - at);
}

std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit,
                                    bool from_end) {
  if (!separator) {
    return from_end ? split_at_space_back(text, limit) : split_at_space(text, limit);
  }
  if (separator->empty()) throw Fault("an empty separator");
  std::vector<std::string_view> parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t found = from_end ? text.rfind(*separator) : find_text(text, *separator);
    if (found == std::string_view::npos) break;
    const size_t behind = found + separator->size();
    parts.push_back(from_end ? text.substr(behind) : text.substr(0, found));
    text = from_end ? text.substr(0, found) : text.substr(behind);
  }
  parts.push_back(text);
  if (from_end) std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_char_at(text, at);
    const bool ends_line = (c.code >= 0x0A && c.code <= 0x0D) ||
                           (c.code >= 0x1C && c.code <= 0x1E) || c.code == 0x85 ||
                           c.code == 0x2028 || c.code == 0x2029;
    size_t next = at + c.bytes;
    if (ends_line) {
      if (c.code == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back(text.substr(start, (keep_ends ? next : at) - start));
      start = next;
    }
    at = next;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string upper_case(std::string_view text) {
  if (!is_ascii(text)) return unicode_upper_case(text);
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? c - 32 : c; });
  return out;
}

std::string lower_case(std::string_view text) {
  if (!is_ascii(text)) return unicode_lower_case(text);
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return out;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  const size_t first = utf8_char_at(text, 0).bytes;
  return upper_case(text.substr(0, first)) + lower_case(text.substr(first));
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if (c == '"') {
      out += "&#34;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescape(std::string_view literal) {
  std::string out;
  for (size_t at = 0; at < literal.size();) {
    if (literal[at] != '\\' || at + 1 == literal.size()) {
      out += literal[at++];
    } else {
      at = append_escape(literal, at + 1, out);
    }
  }
  return out;
}

}  // namespace halftone::jinja
