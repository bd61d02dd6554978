#include "text/pre_tokenizer.h"

#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {
namespace {

constexpr const char* kSupported = "Sequence, Split, Digits, ByteLevel";
constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A literal text as a regular expression.
std::string quoted(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    const bool ascii = static_cast<unsigned char>(c) < 0x80;
    const bool letter =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (ascii && !letter) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& part, const std::string& source) {
  add(part, source + ", pre_tokenizer");
  if (!has_byte_level_) {
    refuse_part(source + ", pre_tokenizer", "a pre-tokenizer without ByteLevel",
                "a Sequence that ends in ByteLevel, or ByteLevel");
  }
}

void PreTokenizer::add(const Json& part, const std::string& source) {
  const std::string type = part_type(part, source);
  if (type == "Sequence") {
    for (const Json& member : array_member(part, "pretokenizers", source)) add(member, source);
    return;
  }
  if (has_byte_level_) refuse_part(source, type + " after ByteLevel", "ByteLevel as the last part");
  if (type == "Split") {
    add_split(part, source + ", Split");
  } else if (type == "Digits") {
    const bool single = json_member_or<bool>(part, "individual_digits", false, source);
    splits_.push_back({Regex(single ? "\\p{N}" : "\\p{N}+", source)});
  } else if (type == "ByteLevel") {
    add_byte_level(part, source + ", ByteLevel");
  } else {
    refuse_part(source, concat("type '", type, "'"), kSupported);
  }
}

void PreTokenizer::add_split(const Json& part, const std::string& source) {
  const Json& pattern = object_member(part, "pattern", source);
  const bool literal = pattern.contains("String");
  const auto text = json_member<std::string>(pattern, literal ? "String" : "Regex", source);
  const auto behavior = json_member<std::string>(part, "behavior", source);
  const bool invert = json_member_or<bool>(part, "invert", false, source);
  const bool removed = behavior == "Removed";
  if (!removed && behavior != "Isolated") {
    refuse_part(source, concat("the behavior '", behavior, "'"), "Isolated, Removed");
  }
  // What is removed are the matches or, inverted, what lies between them.
  splits_.push_back(
      {Regex(literal ? quoted(text) : text, source), !removed || invert, !removed || !invert});
}

void PreTokenizer::add_byte_level(const Json& part, const std::string& source) {
  has_byte_level_ = true;
  add_prefix_space_ = json_member_or<bool>(part, "add_prefix_space", true, source);
  if (json_member_or<bool>(part, "use_regex", true, source)) {
    byte_level_split_ = Split{Regex(kByteLevelPattern, source)};
  }
}

void PreTokenizer::Split::apply(std::vector<std::string_view>& words) const {
  std::vector<std::string_view> result;
  const auto add = [&result](std::string_view piece, bool keep) {
    if (keep && !piece.empty()) result.push_back(piece);
  };
  for (const std::string_view word : words) {
    size_t done = 0;
    for (const Span match : regex.find_all(word)) {
      add(word.substr(done, match.begin - done), keep_gaps);
      add(word.substr(match.begin, match.end - match.begin), keep_matches);
      done = match.end;
    }
    add(word.substr(done), keep_gaps);
  }
  words = std::move(result);
}

Words PreTokenizer::split(std::string_view text) const {
  Words result;
  if (!text.empty()) result.words.push_back(text);
  for (const Split& split : splits_) split.apply(result.words);
  if (add_prefix_space_) {
    for (std::string_view& word : result.words) {
      if (word.starts_with(' ')) continue;
      word = result.prefixed.emplace_back(concat(" ", word));
    }
  }
  if (byte_level_split_) byte_level_split_->apply(result.words);
  return result;
}

}  // namespace halftone
