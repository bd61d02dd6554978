#include "text/regex_syntax.h"

#include <array>
#include <string_view>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

// Oniguruma's \w; PCRE2's has other numbers and, before 10.43, no marks.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Outside of a class, and only there, it has the superscripts and fractions of Latin-1, too.
constexpr std::string_view kLatinWord = R"(\xB2\xB3\xB9\xBC-\xBE)";
constexpr std::array<std::string_view, 8> kGroups = {
    "?:", "?i:", "?-i:", "?=", "?!", "?>", "?<=", "?<!"};

bool is_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool is_ascii_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

class Rewriter {
 public:
  Rewriter(std::string_view in, const std::string& source) : in_(in), source_(source) {}

  std::string run() {
    while (at_ < in_.size()) {
      if (in_[at_] == '\\') {
        escape();
      } else if (in_class_) {
        class_character();
      } else {
        character();
      }
    }
    return std::move(out_);
  }

 private:
  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }
  void replace(size_t count, std::string_view text) {
    out_ += text;
    at_ += count;
  }
  [[noreturn]] void refuse(std::string_view construct) const {
    throw InputError(concat(source_, ": the regular expression '", in_, "' uses '", construct,
                            "', which is not supported here"));
  }

  void character() {
    if (next_is("[")) {
      copy(next_is("[^") ? 2 : 1);
      if (next_is("]")) replace(1, "\\]");
      in_class_ = true;
    } else if (next_is("(*")) {
      refuse("(*");
    } else if (next_is("(?")) {
      copy(1);
      for (const std::string_view group : kGroups) {
        if (next_is(group)) return copy(group.size());
      }
      refuse(concat("(", in_.substr(at_, 3)));
    } else if (next_is("{,") || next_is("}+") || next_is("}?")) {
      // A count without a minimum, possessive and lazy counts mean other things in the two.
      refuse(in_.substr(at_, 2));
    } else {
      copy(1);
    }
  }

  void class_character() {
    const bool bracket = next_is("[") || (next_is("]") && inner_classes_ > 0);
    // Written out, a '-' at the edge would become a range.
    if (bracket && out_.ends_with('-')) refuse("-' at the edge of a class inside of '[...]");
    if (next_is("[")) {
      // A class inside of a class adds its characters: it is written out.
      for (const std::string_view other : {"[^", "[:", "[]"}) {
        if (next_is(other)) refuse(concat(other, "' inside of '[...]"));
      }
      ++inner_classes_;
      ++at_;
    } else if (bracket) {
      --inner_classes_;
      ++at_;
    } else {
      if (next_is("&&")) refuse("&&' inside of '[...]");
      if (next_is("]")) in_class_ = false;
      copy(1);
    }
  }

  void escape() {
    if (at_ + 1 >= in_.size()) refuse("\\");
    const char kind = in_[at_ + 1];
    switch (kind) {
      // PCRE2's \s has U+180E, which is no white space in Unicode any more.
      case 's':
        return replace(2, R"(\p{White_Space})");
      case 'S':
        return replace(2, R"(\P{White_Space})");
      case 'd':
        return replace(2, R"(\p{Nd})");
      case 'D':
        return replace(2, R"(\P{Nd})");
      case 'w':
        return replace(2, in_class_ ? std::string(kWord) : concat("[", kWord, kLatinWord, "]"));
      case 'W':
        if (in_class_) refuse("\\W' inside of '[...]");
        return replace(2, concat("[^", kWord, kLatinWord, "]"));
      case 'b':
      case 'B':
        return boundary(kind == 'b');
      case 'v':
        return replace(2, R"(\x0B)");
      case 'n':
      case 'r':
      case 't':
      case 'f':
        return copy(2);
      case 'p':
      case 'P':
        return property();
      case 'u':
        return code(in_.substr(at_ + 2, 4), 6);
      case 'x':
        return hexadecimal();
      default:
        if (is_ascii_word(kind)) refuse(in_.substr(at_, 2));
        return copy(2);
    }
  }

  // PCRE2's \b is that of its own \w.
  void boundary(bool wanted) {
    if (in_class_) refuse(concat(in_.substr(at_, 2), "' inside of '[...]"));
    const std::string word = concat("[", kWord, kLatinWord, "]");
    const std::string inside = concat("(?<=", word, ")(?", wanted ? "!" : "=", word, ")");
    const std::string outside = concat("(?<!", word, ")(?", wanted ? "=" : "!", word, ")");
    replace(2, concat("(?:", inside, "|", outside, ")"));
  }

  // General categories have one or two letters and are the same in both. A longer name is taken as
  // a script, which PCRE2 without "sc:" would widen to the script extensions.
  void property() {
    const size_t end = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || end == std::string_view::npos) {
      refuse(in_.substr(at_, 3));
    }
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    const bool inverted = name.starts_with('^');
    if (inverted) name.remove_prefix(1);
    for (const char c : name) {
      if (!is_ascii_word(c)) refuse(in_.substr(at_, end + 1 - at_));
    }
    const bool script = name.size() > 2 && name != "Alphabetic" && name != "White_Space";
    replace(end + 1 - at_,
            concat(in_.substr(at_, 2), "{", inverted ? "^" : "", script ? "sc:" : "", name, "}"));
  }

  void hexadecimal() {
    if (at_ + 2 < in_.size() && in_[at_ + 2] == '{') {
      const size_t end = in_.find('}', at_);
      if (end == std::string_view::npos) refuse(in_.substr(at_, 3));
      return code(in_.substr(at_ + 3, end - at_ - 3), end + 1 - at_);
    }
    // Two digits above 7F are a byte, not a character, for Oniguruma.
    if (at_ + 2 < in_.size() && in_[at_ + 2] > '7') refuse(in_.substr(at_, 4));
    code(in_.substr(at_ + 2, 2), 4);
  }

  void code(std::string_view digits, size_t count) {
    bool good = !digits.empty() && at_ + count <= in_.size();
    for (const char c : digits) good = good && is_hex(c);
    if (!good) refuse(in_.substr(at_, count));
    replace(count, concat("\\x{", digits, "}"));
  }

  std::string_view in_;
  const std::string& source_;
  size_t at_ = 0;
  bool in_class_ = false;
  int inner_classes_ = 0;  // that are open inside of it
  std::string out_;
};

}  // namespace

std::string oniguruma_to_pcre2(const std::string& pattern, const std::string& source) {
  return Rewriter(pattern, source).run();
}

}  // namespace halftone
