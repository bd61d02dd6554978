#include "text/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "core/log.h"
#include "text/jinja_text.h"
#include "text/jinja_value.h"
#include "text/utf8.h"

namespace halftone::jinja {
namespace {

std::string with_plain_newlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_data();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  char peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }
  bool looking_at(std::string_view text) const {
    return std::string_view(source_).substr(at_).starts_with(text);
  }
  void move_to(size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(end), '\n'));
    at_ = end;
  }
  void move_over_space() { move_to(skip_python_space(source_, at_)); }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  [[noreturn]] void fail(const std::string& text) const { throw Fault(text, line_); }

  // Where the next tag begins, or the end.
  size_t find_tag() const {
    for (size_t i = source_.find('{', at_); i != std::string::npos; i = source_.find('{', i + 1)) {
      const char next = i + 1 < source_.size() ? source_[i + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return source_.size();
  }

  // The text up to a tag, without the white space that the tag's sign or lstrip_blocks takes.
  std::string before_tag(size_t tag, char sign, bool block) const {
    std::string text = source_.substr(at_, tag - at_);
    if (sign == '-') return text.substr(0, skip_python_space_back(text, text.size()));
    if (sign == '+' || !block) return text;
    const size_t newline = text.rfind('\n');
    const size_t start = newline == std::string::npos ? 0 : newline + 1;
    if (start == 0 && !line_starting_) return text;
    if (skip_python_space(text, start) == text.size()) text.resize(start);
    return text;
  }

  void read_data() {
    const size_t tag = find_tag();
    const char kind = tag < source_.size() ? source_[tag + 1] : '\0';
    const char next = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const char sign = kind != '\0' && (next == '-' || next == '+') ? next : '\0';
    std::string text = kind == '\0' ? source_.substr(at_) : before_tag(tag, sign, kind != '{');
    if (!text.empty()) add(TokenKind::kData, std::move(text));
    move_to(tag);
    if (kind == '\0') return;
    move_to(tag + (sign == '\0' ? 2 : 3));
    if (kind == '#') {
      read_comment();
    } else if (kind == '{') {
      add(TokenKind::kVariableBegin, "{{");
      read_tag("}}", TokenKind::kVariableEnd);
    } else if (!read_raw()) {
      add(TokenKind::kBlockBegin, "{%");
      read_tag("%}", TokenKind::kBlockEnd);
    }
    line_starting_ = source_[at_ - 1] == '\n';
  }

  // At the delimiter that closes a tag: takes it with the white space that belongs to it.
  bool take_end(std::string_view end, bool trim_newline) {
    const bool signed_end = (peek() == '-' || (peek() == '+' && end != "}}")) &&
                            std::string_view(source_).substr(at_ + 1).starts_with(end);
    if (!signed_end && !looking_at(end)) return false;
    const bool minus = peek() == '-';
    move_to(at_ + end.size() + (signed_end ? 1 : 0));
    if (minus) {
      move_over_space();
    } else if (!signed_end && trim_newline && peek() == '\n') {
      move_to(at_ + 1);
    }
    return true;
  }

  void read_comment() {
    const int begun = line_;
    size_t end = source_.find("#}", at_);
    if (end == std::string::npos) {
      throw Fault("a comment '{#' without its '#}'", begun);
    }
    if (end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+')) --end;
    move_to(end);
    take_end("#}", true);
  }

  // At what follows "{%": a raw block, if it is one.
  bool read_raw() {
    const size_t name = skip_python_space(source_, at_);
    if (source_.compare(name, 3, "raw") != 0) return false;
    const size_t close = skip_python_space(source_, name + 3);
    const bool minus = source_.compare(close, 3, "-%}") == 0;
    if (!minus && source_.compare(close, 2, "%}") != 0) return false;
    const int begun = line_;
    move_to(close + (minus ? 3 : 2));
    if (minus) move_over_space();
    line_starting_ = source_[at_ - 1] == '\n';
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos;
         tag = source_.find("{%", tag + 1)) {
      const char next = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      const char sign = next == '-' || next == '+' ? next : '\0';
      const size_t word = skip_python_space(source_, tag + (sign == '\0' ? 2 : 3));
      if (source_.compare(word, 6, "endraw") != 0) continue;
      std::string text = before_tag(tag, sign, true);
      const size_t end = skip_python_space(source_, word + 6);
      const std::string_view rest = std::string_view(source_).substr(end);
      if (!rest.starts_with("%}") && !rest.starts_with("-%}") && !rest.starts_with("+%}")) continue;
      if (!text.empty()) add(TokenKind::kData, std::move(text));
      move_to(end);
      return take_end("%}", true);
    }
    throw Fault("a block 'raw' without its 'endraw'", begun);
  }

  void read_tag(std::string_view end, TokenKind kind) {
    const int begun = line_;
    std::string open;  // brackets whose partner is awaited
    while (true) {
      move_over_space();
      if (open.empty() && take_end(end, end == "%}")) {
        tokens_.push_back({kind, std::string(end), line_});
        return;
      }
      if (at_ >= source_.size()) {
        throw Fault(concat("a tag '", end == "%}" ? "{%" : "{{", "' without its '", end, "'"),
                    begun);
      }
      read_token(open);
    }
  }

  void read_token(std::string& open) {
    const char c = peek();
    if (c == '"' || c == '\'') return read_text(c);
    if (is_digit(c)) return read_number();
    if (starts_name(c)) {
      size_t end = at_;
      while (end < source_.size() && (starts_name(source_[end]) || is_digit(source_[end]))) ++end;
      add(TokenKind::kName, source_.substr(at_, end - at_));
      return move_to(end);
    }
    read_operator(open);
  }

  void read_operator(std::string& open) {
    static constexpr std::array<std::string_view, 6> kLong = {"//", "**", "==", "!=", ">=", "<="};
    for (const std::string_view op : kLong) {
      if (!looking_at(op)) continue;
      add(TokenKind::kOperator, std::string(op));
      return move_to(at_ + op.size());
    }
    const char c = peek();
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      const size_t bytes = utf8_char_at(source_, at_).bytes;
      fail(concat("unexpected character '", source_.substr(at_, bytes), "'"));
    }
    if (c == '(' || c == '[' || c == '{') {
      open += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) fail(concat("unexpected '", c, "'"));
      if (open.back() != c) fail(concat("unexpected '", c, "', expected '", open.back(), "'"));
      open.pop_back();
    }
    add(TokenKind::kOperator, std::string(1, c));
    move_to(at_ + 1);
  }

  void read_text(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("a text without its closing quote");
    const std::string_view inner = std::string_view(source_).substr(at_ + 1, end - at_ - 1);
    try {
      add(TokenKind::kText, unescape(inner));
    } catch (const Fault& fault) {
      fail(fault.what());
    }
    move_to(end + 1);
  }

  size_t skip_digits(size_t from) const {
    while (from < source_.size() &&
           (is_digit(source_[from]) ||
            (source_[from] == '_' && from + 1 < source_.size() && is_digit(source_[from + 1])))) {
      ++from;
    }
    return from;
  }

  void read_number() {
    const auto digit_at = [&](size_t at) { return at < source_.size() && is_digit(source_[at]); };
    const auto char_at = [&](size_t at) { return at < source_.size() ? source_[at] : '\0'; };
    size_t end = skip_digits(at_);
    TokenKind kind = TokenKind::kInteger;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (end - at_ == 1 && peek() == '0' && std::string_view("xXoObB").find(char_at(end)) < 6) {
      ++end;
      while (std::isxdigit(static_cast<unsigned char>(char_at(end))) != 0 || char_at(end) == '_')
        ++end;
    } else if (!after_dot) {
      if (char_at(end) == '.' && digit_at(end + 1)) {
        kind = TokenKind::kFloat;
        end = skip_digits(end + 1);
      }
      const size_t sign = char_at(end + 1) == '+' || char_at(end + 1) == '-' ? 1 : 0;
      if ((char_at(end) == 'e' || char_at(end) == 'E') && digit_at(end + 1 + sign)) {
        kind = TokenKind::kFloat;
        end = skip_digits(end + 1 + sign);
      }
    }
    std::string digits = source_.substr(at_, end - at_);
    std::erase(digits, '_');
    add(kind, std::move(digits));
    move_to(end);
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kData:
      return "text";
    case TokenKind::kText:
      return concat("the text '", lossy_utf8(token.text.substr(0, 40)), "'");
    default:
      return concat("'", lossy_utf8(token.text.substr(0, 40)), "'");
  }
}

}  // namespace halftone::jinja
