#include "text/unicode_normalizers.h"

#include "text/unicode.h"
#include "text/utf8.h"

namespace halftone {
namespace {

class NormalFormNormalizer : public Normalizer {
 public:
  NormalFormNormalizer(NormalForm form, const std::string& source) : form_(form) {
    require_unicode_tables(source);
  }
  void apply(NormalizedText& text) const override {
    const std::string start = to_normal_form(text.text.substr(0, text.at_start), form_);
    text.text = to_normal_form(text.text, form_);
    text.at_start = start.size();
  }

 private:
  NormalForm form_;
};

// What maps a character to a text, which may be empty, without regard to its neighbours.
class CharacterNormalizer : public Normalizer {
 public:
  using Map = void (*)(char32_t code, std::string& text);

  explicit CharacterNormalizer(Map map) : map_(map) {}
  void apply(NormalizedText& text) const override {
    TextRewriter rewriter(text);
    std::string mapped;
    for (size_t at = 0; at < text.text.size();) {
      const Utf8Char next = utf8_char_at(text.text, at);
      mapped.clear();
      map_(next.code, mapped);
      if (!mapped.empty()) rewriter.append(mapped, at);
      at += next.bytes;
    }
    text = rewriter.take();
  }

 private:
  Map map_;
};

void without_mark(char32_t code, std::string& text) {
  if (!is_combining_mark(code)) append_utf8(code, text);
}

// The cleaning of SentencePiece's "nmt" rules: control characters go, odd spaces become spaces.
void cleaned(char32_t code, std::string& text) {
  const bool control = (code >= 0x01 && code <= 0x08) || code == 0x0B ||
                       (code >= 0x0E && code <= 0x1F) || code == 0x7F || code == 0x8F ||
                       code == 0x9F;
  if (control) return;
  const bool space = code == 0x09 || code == 0x0A || code == 0x0C || code == 0x0D ||
                     code == 0x1680 || (code >= 0x200B && code <= 0x200F) || code == 0x2028 ||
                     code == 0x2029 || code == 0x2581 || code == 0xFEFF || code == 0xFFFD;
  append_utf8(space ? U' ' : code, text);
}

}  // namespace

std::unique_ptr<Normalizer> make_nfc(const Json& /*part*/, const std::string& source) {
  return std::make_unique<NormalFormNormalizer>(NormalForm::kNfc, source);
}

std::unique_ptr<Normalizer> make_nfd(const Json& /*part*/, const std::string& source) {
  return std::make_unique<NormalFormNormalizer>(NormalForm::kNfd, source);
}

std::unique_ptr<Normalizer> make_nfkc(const Json& /*part*/, const std::string& source) {
  return std::make_unique<NormalFormNormalizer>(NormalForm::kNfkc, source);
}

std::unique_ptr<Normalizer> make_nfkd(const Json& /*part*/, const std::string& source) {
  return std::make_unique<NormalFormNormalizer>(NormalForm::kNfkd, source);
}

std::unique_ptr<Normalizer> make_lowercase(const Json& /*part*/, const std::string& source) {
  require_unicode_tables(source);
  return std::make_unique<CharacterNormalizer>(&append_lower_case);
}

std::unique_ptr<Normalizer> make_strip_accents(const Json& /*part*/, const std::string& source) {
  require_unicode_tables(source);
  return std::make_unique<CharacterNormalizer>(&without_mark);
}

std::unique_ptr<Normalizer> make_nmt(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<CharacterNormalizer>(&cleaned);
}

}  // namespace halftone
