#include "text/splitter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"
#include "text/pattern.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace halftone {
namespace {

struct NamedBehavior {
  const char* name;
  SplitBehavior behavior;
};
constexpr std::array<NamedBehavior, 5> kBehaviors{{
    {"Isolated", SplitBehavior::kIsolated},
    {"Removed", SplitBehavior::kRemoved},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous},
}};

SplitBehavior behavior_of(const std::string& name, const std::string& source) {
  std::string supported;
  for (const NamedBehavior& known : kBehaviors) {
    if (name == known.name) return known.behavior;
    supported += concat(supported.empty() ? "" : ", ", known.name);
  }
  refuse_part(source, concat("the behavior '", name, "'"), supported);
}

struct Part {
  Span span;
  bool is_match = false;
};

// Matches and gaps, which together cover the text.
std::vector<Part> parts_of(const std::vector<Span>& matches, size_t bytes, bool invert) {
  std::vector<Part> parts;
  size_t done = 0;
  for (const Span match : matches) {
    if (done != match.begin) parts.push_back({{done, match.begin}, invert});
    parts.push_back({match, !invert});
    done = match.end;
  }
  if (done != bytes) parts.push_back({{done, bytes}, invert});
  return parts;
}

// Whether a part joins the one that was seen before it.
bool joins(SplitBehavior behavior, const Part& part, bool after_match) {
  if (behavior == SplitBehavior::kContiguous) return part.is_match == after_match;
  return part.is_match && !after_match;
}

std::vector<Span> joined(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Span> spans;
  bool after_match = false;
  for (const Part& part : parts) {
    if (!spans.empty() && joins(behavior, part, after_match)) {
      spans.back().begin = std::min(spans.back().begin, part.span.begin);
      spans.back().end = std::max(spans.back().end, part.span.end);
    } else {
      spans.push_back(part.span);
    }
    after_match = part.is_match;
  }
  return spans;
}

// One-character matches of a property.
Splitter::Find find_characters(bool (*holds)(char32_t code)) {
  return [holds](std::string_view text) {
    std::vector<Span> matches;
    for (size_t at = 0; at < text.size();) {
      const Utf8Char next = utf8_char_at(text, at);
      if (holds(next.code)) matches.push_back({at, at + next.bytes});
      at += next.bytes;
    }
    return matches;
  };
}

Splitter::Find find_regex(const std::string& expression, const std::string& source) {
  return [regex = std::make_shared<const Regex>(expression, source)](std::string_view text) {
    return regex->find_all(text);
  };
}

}  // namespace

std::vector<Span> split_spans(const std::vector<Span>& matches, size_t bytes,
                              SplitBehavior behavior, bool invert) {
  std::vector<Part> parts = parts_of(matches, bytes, invert);
  if (behavior == SplitBehavior::kIsolated || behavior == SplitBehavior::kRemoved) {
    std::vector<Span> spans;
    for (const Part& part : parts) {
      if (behavior == SplitBehavior::kIsolated || !part.is_match) spans.push_back(part.span);
    }
    return spans;
  }
  if (behavior != SplitBehavior::kMergedWithNext) return joined(parts, behavior);
  std::reverse(parts.begin(), parts.end());
  std::vector<Span> spans = joined(parts, behavior);
  std::reverse(spans.begin(), spans.end());
  return spans;
}

void Splitter::apply(Pieces& pieces) const {
  std::vector<Piece> result;
  for (const Piece& piece : pieces.list) {
    for (const Span span : split_spans(find_(piece.text), piece.text.size(), behavior_, invert_)) {
      if (span.begin != span.end) result.push_back(piece.cut(span.begin, span.end));
    }
  }
  pieces.list = std::move(result);
}

std::unique_ptr<PreTokenizer> make_split(const Json& part, const std::string& source) {
  const SplitBehavior behavior =
      behavior_of(json_member<std::string>(part, "behavior", source), source);
  const auto pattern = std::make_shared<const Pattern>(part, source);
  return std::make_unique<Splitter>(
      [pattern](std::string_view text) { return pattern->find_all(text); }, behavior,
      json_member_or<bool>(part, "invert", false, source));
}

std::unique_ptr<PreTokenizer> make_digits(const Json& part, const std::string& source) {
  const bool single = json_member_or<bool>(part, "individual_digits", false, source);
  return std::make_unique<Splitter>(find_regex(single ? "\\p{N}" : "\\p{N}+", source),
                                    SplitBehavior::kIsolated);
}

// Words and runs of other characters; the words of Rust's regular expressions, not Oniguruma's.
std::unique_ptr<PreTokenizer> make_whitespace(const Json& /*part*/, const std::string& source) {
  const std::string word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D})";
  return std::make_unique<Splitter>(find_regex(concat("[", word, "]+|[^\\s", word, "]+"), source),
                                    SplitBehavior::kRemoved, true);
}

std::unique_ptr<PreTokenizer> make_whitespace_split(const Json& /*part*/,
                                                    const std::string& /*source*/) {
  return std::make_unique<Splitter>(find_characters(&is_white_space), SplitBehavior::kRemoved);
}

std::unique_ptr<PreTokenizer> make_punctuation(const Json& part, const std::string& source) {
  require_unicode_tables(source);
  const auto behavior = json_member_or<std::string>(part, "behavior", "Isolated", source);
  return std::make_unique<Splitter>(find_characters(&is_punctuation),
                                    behavior_of(behavior, source));
}

std::unique_ptr<PreTokenizer> make_char_delimiter(const Json& part, const std::string& source) {
  const Json pattern = {
      {"pattern", {{"String", json_member<std::string>(part, "delimiter", source)}}}};
  const auto delimiter = std::make_shared<const Pattern>(pattern, source);
  return std::make_unique<Splitter>(
      [delimiter](std::string_view text) { return delimiter->find_all(text); },
      SplitBehavior::kRemoved);
}

}  // namespace halftone
