#include "text/decoder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/byte_tokens.h"
#include "text/metaspace.h"
#include "text/part_registry.h"
#include "text/pattern.h"
#include "text/utf8.h"

namespace halftone {
namespace {

std::string joined(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

class SpacesBetween : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 1; i < tokens.size(); ++i) tokens[i].insert(0, 1, ' ');
  }
};

class DecoderSequence : public Decoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<Decoder>> members)
      : members_(std::move(members)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (const auto& member : members_) member->apply(tokens);
  }

 private:
  std::vector<std::unique_ptr<Decoder>> members_;
};

class ByteLevelDecoder : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    const ByteAlphabet& alphabet = ByteAlphabet::instance();
    std::string bytes;
    // A token with a character outside the alphabet stands for itself.
    for (const std::string& token : tokens) bytes += alphabet.decode(token).value_or(token);
    tokens = {lossy_utf8(bytes)};
  }
};

// Runs of byte tokens become the characters they spell, or as many U+FFFD.
class ByteFallback : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> result;
    std::string bytes;
    const auto flush = [&] {
      if (first_invalid_utf8(bytes) == std::string_view::npos) {
        if (!bytes.empty()) result.push_back(bytes);
      } else {
        result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of_token(token)) {
        bytes += static_cast<char>(*byte);
        continue;
      }
      flush();
      result.push_back(std::move(token));
    }
    flush();
    tokens = std::move(result);
  }
};

class Fuse : public Decoder {
 public:
  void apply(std::vector<std::string>& tokens) const override { tokens = {joined(tokens)}; }
};

// Takes up to `start` and `stop` times the character from the ends of every token.
class StripDecoder : public Decoder {
 public:
  StripDecoder(std::string character, int64_t start, int64_t stop)
      : character_(std::move(character)), start_(start), stop_(stop) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (int64_t i = 0; i < start_ && rest.starts_with(character_); ++i) {
        rest.remove_prefix(character_.size());
      }
      for (int64_t i = 0; i < stop_ && rest.ends_with(character_); ++i) {
        rest.remove_suffix(character_.size());
      }
      token = std::string(rest);
    }
  }

 private:
  std::string character_;
  int64_t start_;
  int64_t stop_;
};

class ReplaceDecoder : public Decoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::vector<std::string>& tokens) const override {
    size_t bytes = 0;
    for (std::string& token : tokens) {
      token = replace_all(pattern_, token, content_);
      check_normalized_size(bytes += token.size());
    }
  }

 private:
  Pattern pattern_;
  std::string content_;
};

std::unique_ptr<Decoder> make_spaces(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<SpacesBetween>();
}

std::unique_ptr<Decoder> make_sequence(const Json& part, const std::string& source) {
  std::vector<std::unique_ptr<Decoder>> members;
  for (const Json& member : array_member(part, "decoders", source)) {
    if (member.is_null()) refuse_part(source, "null", "decoders");
    members.push_back(make_decoder(member, source));
  }
  return std::make_unique<DecoderSequence>(std::move(members));
}

std::unique_ptr<Decoder> make_byte_level(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<ByteLevelDecoder>();
}

std::unique_ptr<Decoder> make_byte_fallback(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<ByteFallback>();
}

std::unique_ptr<Decoder> make_fuse(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<Fuse>();
}

std::unique_ptr<Decoder> make_strip(const Json& part, const std::string& source) {
  const auto content = json_member<std::string>(part, "content", source);
  const auto start = json_member<int64_t>(part, "start", source);
  const auto stop = json_member<int64_t>(part, "stop", source);
  if (content.empty() || utf8_char_at(content, 0).bytes != content.size()) {
    throw InputError(concat(source, ": 'content' must be one character, found '", content, "'"));
  }
  if (start < 0 || stop < 0) throw InputError(concat(source, ": a negative count"));
  return std::make_unique<StripDecoder>(content, start, stop);
}

std::unique_ptr<Decoder> make_replace(const Json& part, const std::string& source) {
  return std::make_unique<ReplaceDecoder>(Pattern(part, source),
                                          json_member<std::string>(part, "content", source));
}

constexpr std::array<PartKind<Decoder>, 8> kDecoders{{
    {"null", &make_spaces},
    {"Sequence", &make_sequence},
    {"ByteLevel", &make_byte_level},
    {"ByteFallback", &make_byte_fallback},
    {"Fuse", &make_fuse},
    {"Strip", &make_strip},
    {"Replace", &make_replace},
    {"Metaspace", &make_metaspace_decoder},
}};

}  // namespace

std::unique_ptr<Decoder> make_decoder(const Json& part, const std::string& source) {
  return make_part<Decoder>(kDecoders, part, source);
}

}  // namespace halftone
