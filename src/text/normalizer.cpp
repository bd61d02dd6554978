#include "text/normalizer.h"

#include <array>
#include <utility>
#include <vector>

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/part_registry.h"
#include "text/pattern.h"
#include "text/precompiled_charsmap.h"
#include "text/unicode_normalizers.h"
#include "text/utf8.h"

namespace halftone {
namespace {

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> members)
      : members_(std::move(members)) {}
  void apply(NormalizedText& text) const override {
    for (const auto& member : members_) member->apply(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> members_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(NormalizedText& text) const override {
    if (text.text.empty()) return;
    text.text.insert(0, prefix_);
    if (text.at_start > 0) text.at_start += prefix_.size();
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(NormalizedText& text) const override {
    TextRewriter rewriter(text);
    size_t done = 0;
    for (const Span match : pattern_.find_all(text.text)) {
      rewriter.keep(done, match.begin);
      // What is put in counts as a part of the last byte that it replaces.
      rewriter.append(content_, match.end == 0 ? 0 : match.end - 1);
      done = match.end;
    }
    rewriter.keep(done, text.text.size());
    text = rewriter.take();
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(NormalizedText& text) const override {
    const std::string_view all = text.text;
    const size_t begin = left_ ? skip_space(all, 0) : 0;
    const size_t end = right_ && begin < all.size() ? skip_space_back(all, all.size()) : all.size();
    TextRewriter rewriter(text);
    rewriter.keep(begin, end);
    text = rewriter.take();
  }

 private:
  bool left_;
  bool right_;
};

// Every byte as its character of the byte alphabet.
class ByteLevelNormalizer : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    TextRewriter rewriter(text);
    for (size_t at = 0; at < text.text.size(); ++at) {
      rewriter.append(ByteAlphabet::instance().character(static_cast<unsigned char>(text.text[at])),
                      at);
    }
    text = rewriter.take();
  }
};

std::unique_ptr<Normalizer> make_nothing(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<NormalizerSequence>(std::vector<std::unique_ptr<Normalizer>>());
}

std::unique_ptr<Normalizer> make_sequence(const Json& part, const std::string& source) {
  std::vector<std::unique_ptr<Normalizer>> members;
  for (const Json& member : array_member(part, "normalizers", source)) {
    members.push_back(make_normalizer(member, source));
  }
  return std::make_unique<NormalizerSequence>(std::move(members));
}

std::unique_ptr<Normalizer> make_prepend(const Json& part, const std::string& source) {
  return std::make_unique<Prepend>(json_member<std::string>(part, "prepend", source));
}

std::unique_ptr<Normalizer> make_replace(const Json& part, const std::string& source) {
  return std::make_unique<Replace>(Pattern(part, source),
                                   json_member<std::string>(part, "content", source));
}

std::unique_ptr<Normalizer> make_strip(const Json& part, const std::string& source) {
  return std::make_unique<Strip>(json_member_or<bool>(part, "strip_left", true, source),
                                 json_member_or<bool>(part, "strip_right", true, source));
}

std::unique_ptr<Normalizer> make_byte_level(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<ByteLevelNormalizer>();
}

constexpr std::array<PartKind<Normalizer>, 14> kNormalizers{{
    {"null", &make_nothing},
    {"Sequence", &make_sequence},
    {"NFC", &make_nfc},
    {"NFD", &make_nfd},
    {"NFKC", &make_nfkc},
    {"NFKD", &make_nfkd},
    {"Lowercase", &make_lowercase},
    {"StripAccents", &make_strip_accents},
    {"Nmt", &make_nmt},
    {"Precompiled", &make_precompiled},
    {"Prepend", &make_prepend},
    {"Replace", &make_replace},
    {"Strip", &make_strip},
    {"ByteLevel", &make_byte_level},
}};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const Json& part, const std::string& source) {
  return make_part<Normalizer>(kNormalizers, part, source);
}

}  // namespace halftone
