// Expectations are what the tokenizers library (0.23.3) gives for the same parts.
#include <gtest/gtest.h>

#include "tests/text/tokenizer_fixture.h"
#include "text/decoder.h"

namespace halftone {
namespace {

// JSON: the part, the tokens, the text.
struct Case {
  const char* part;
  const char* tokens;
  const char* text;
};

std::string decoded(const char* part, std::vector<std::string> tokens) {
  make_decoder(parse_json(part, "part"), "file, decoder")->apply(tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

TEST(DecoderTest, Texts) {
  const std::vector<Case> cases = {
      {"null", R"(["a", "b"])", R"("a b")"},
      {R"({"type": "ByteLevel"})",
       R"(["\u00c3", "\u00a9", "\u0120x", "\u00ff", "\u00e2\u0122", "\u4e2d"])",
       R"("\u00e9 x\ufffd\ufffd\u4e2d")"},
      {R"({"type": "ByteFallback"})",
       R"(["a", "<0xE4>", "<0xB8>", "<0xAD>", "b", "<0xFF>", "<0x41>", "<0xG1>", "<0x4>"])",
       R"("a\u4e2db\ufffd\ufffd<0xG1><0x4>")"},
      {R"({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
       R"(["\u2581\u2581a", "<0xC3>", "<0xA9>", "\u2581b"])", R"(" a\u00e9 b")"},
      {R"({"type": "Strip", "content": "a", "start": 2, "stop": 1})", R"(["aaab", "bcaa", "xa"])",
       R"("abbcax")"},
      {R"({"type": "Strip", "content": "a", "start": 9, "stop": 9})", R"(["a", "", "aa"])",
       R"("")"},
      {R"({"type": "Replace", "pattern": {"Regex": "[ab]+"}, "content": "-"})", R"(["aab", "xb"])",
       R"("-x-")"},
      {R"({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"})",
       R"(["\u2581a\u2581", "\u2581b"])", R"("a b")"},
      {R"({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"})",
       R"(["\u2581a\u2581", "\u2581b"])", R"("a b")"},
      {R"({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never"})",
       R"(["\u2581a\u2581", "\u2581b"])", R"(" a  b")"},
  };
  for (const Case& test : cases) {
    EXPECT_EQ(decoded(test.part, parse_json(test.tokens, "tokens").get<std::vector<std::string>>()),
              parse_json(test.text, "text").get<std::string>())
        << test.part << " of " << test.tokens;
  }
}

TEST(DecoderTest, NoTokensAreNoText) {
  for (const char* part :
       {"null", R"({"type": "ByteLevel"})", R"({"type": "ByteFallback"})", R"({"type": "Fuse"})"}) {
    EXPECT_EQ(decoded(part, {}), "") << part;
  }
}

TEST(DecoderTest, RefusesWhatItDoesNotKnow) {
  const auto refused = [](const char* part, const std::string& message) {
    expect_error<InputError>([&] { decoded(part, {}); }, message);
  };
  refused(R"({"type": "WordPiece"})", "file, decoder: type 'WordPiece' is not supported");
  refused(R"({"type": "Sequence", "decoders": [null]})", "decoder, Sequence: null");
  refused(R"({"type": "Strip", "content": "ab", "start": 1, "stop": 0})", "must be one character");
  refused(R"({"type": "Strip", "content": "a", "start": -1, "stop": 0})", "a negative count");
  refused(R"({"type": "Strip", "content": "a", "start": 1})", "'stop' is missing");
  refused(R"({"type": "Replace", "pattern": {}, "content": ""})", "'Regex' is missing");
}

}  // namespace
}  // namespace halftone
