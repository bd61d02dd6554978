// Expectations are what the tokenizers library (0.23.3) gives for the same parts.
#include <gtest/gtest.h>

#include "tests/text/tokenizer_fixture.h"
#include "text/normalizer.h"

namespace halftone {
namespace {

// Strings as JSON spells them.
struct Case {
  const char* part;
  const char* text;
  const char* expected;
};

std::string text_of(const char* json) {
  return parse_json(json, "case").get<std::string>();
}

std::string normalized(const Json& part, const std::string& text) {
  NormalizedText result{text, 0};
  make_normalizer(part, "file, normalizer")->apply(result);
  return result.text;
}

void expect_all(const std::vector<Case>& cases) {
  for (const Case& test : cases) {
    EXPECT_EQ(normalized(parse_json(test.part, "part"), text_of(test.text)), text_of(test.expected))
        << test.part << " of " << test.text;
  }
}

TEST(NormalizerTest, Texts) {
  expect_all({
      {"null", R"("a b")", R"("a b")"},
      {R"({"type": "Sequence", "normalizers": []})", R"("a b")", R"("a b")"},
      {R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
           {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]})",
       R"(" a b")", R"("\u2581\u2581a\u2581b")"},
      {R"({"type": "Prepend", "prepend": "\u2581"})", R"("")", R"("")"},
      {R"({"type": "Replace", "pattern": {"String": "a.b"}, "content": "-"})", R"("a.ba.bxaxb")",
       R"("--xaxb")"},
      {R"({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "_"})", R"("a   b c  ")",
       R"("a_b c_")"},
      {R"({"type": "Replace", "pattern": {"String": ""}, "content": "-"})", R"("a\u00e9")",
       R"("-a-\u00e9-")"},
      {R"({"type": "Strip", "strip_left": true, "strip_right": false})", R"(" \u00a0\na b ")",
       R"("a b ")"},
      {R"({"type": "Strip", "strip_left": false, "strip_right": true})", R"(" a b\u3000 ")",
       R"(" a b")"},
      {R"({"type": "Strip", "strip_left": true, "strip_right": true})", R"(" \n ")", R"("")"},
      {R"({"type": "Nmt"})", R"("a\u0001\tb\u200b\ufeff\u2581\u0085")", R"("a b   \u0085")"},
      {R"({"type": "ByteLevel"})", R"("a \u00e9\n")", R"("a\u0120\u00c3\u00a9\u010a")"},
  });
}

#ifdef HALFTONE_HAS_ICU

TEST(NormalizerTest, NormalForms) {
  expect_all({
      {R"({"type": "NFC"})", R"("e\u0301\u1100\u1161\u212b")", R"("\u00e9\uac00\u00c5")"},
      {R"({"type": "NFD"})", R"("\u00e9\uac00")", R"("e\u0301\u1100\u1161")"},
      {R"({"type": "NFKC"})", R"("\ufb01\u00bd\uff76\uff9e\u2460")", R"("fi1\u20442\u30ac1")"},
      {R"({"type": "NFKD"})", R"("\u1eadx\u2026")", R"("a\u0323\u0302x...")"},
      // What is younger than the reference's tables stays: U+0898 as a starter, U+32FF as it is.
      {R"({"type": "NFC"})", R"("a\u0315\u0898\u0301")", R"("a\u0315\u0898\u0301")"},
      {R"({"type": "NFKC"})", R"("\u32ff\u33ff")", R"("\u32ffgal")"},
  });
}

TEST(NormalizerTest, Properties) {
  expect_all({
      {R"({"type": "Lowercase"})", R"("\u0130\u03a3A\u01c5\u1e9e")",
       R"("i\u0307\u03c3a\u01c6\u00df")"},
      {R"({"type": "StripAccents"})", R"("e\u0301\u00e9\u0e33x\u0903\u0898")",
       R"("e\u00e9\u0e33x\u0898")"},
  });
}

TEST(NormalizerTest, PrecompiledWorksByGrapheme) {
  const Json part = read_json_file(fixture_folder("t5") / "tokenizer.json")["normalizer"];
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"("\u2122\u001eg")", R"("TMg")"},
      {R"("e\u0301")", R"("\u00e9")"},
      {R"("\uff76\uff9e")", R"("\u30ab\u3099")"},  // 6 bytes: character by character
      {R"("\u00bd\u0301")", R"("1\u20442")"},      // 4 bytes: the shortest rule takes all
      {R"("\r\n")", R"(" ")"},
      {R"("a\u0000b")", R"("a\u0000b")"},
      {R"("\u3000\ufb01\u2581")", R"(" fi ")"},
      {R"("\u0e33\u0600\u00bd")", R"("\u0e4d\u0e32\u06001\u20442")"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(normalized(part, text_of(text)), text_of(expected)) << text;
  }
}

TEST(NormalizerTest, DamagedCharsmaps) {
  const auto refused = [](const std::string& charsmap, const std::string& message) {
    const Json part = {{"type", "Precompiled"}, {"precompiled_charsmap", charsmap}};
    expect_error<InputError>([&] { make_normalizer(part, "file, normalizer"); }, message);
  };
  refused("", "announces a table of 0");
  refused("AAA", "is not base64");
  refused("????", "is not base64");
  refused("AAAAAA==", "announces a table of 0");
  refused("CAAAAAAAAAA=", "'precompiled_charsmap' of 8 bytes announces a table of 8");
  refused("BAAAAAAAAAD/", "are not UTF-8");
  // Offsets beyond the table end the search.
  const Json part = {{"type", "Precompiled"}, {"precompiled_charsmap", "BAAAAP////8="}};
  EXPECT_EQ(normalized(part, "ab\xC3\xA9"), "ab\xC3\xA9");
}

#else

TEST(NormalizerTest, WhatNeedsIcuSaysSo) {
  for (const char* type : {"NFC", "NFKD", "Lowercase", "StripAccents"}) {
    expect_error<InputError>(
        [&] {
          make_normalizer({{"type", type}}, "file, normalizer");
        },
        "install libicu-dev");
  }
}

#endif

TEST(NormalizerTest, RefusesWhatItDoesNotKnow) {
  const auto refused = [](const char* part, const std::string& message) {
    expect_error<InputError>([&] { make_normalizer(parse_json(part, "part"), "file, normalizer"); },
                             message);
  };
  refused(R"({"type": "BertNormalizer"})", "file, normalizer: type 'BertNormalizer'");
  refused(R"({"type": "Sequence", "normalizers": [{"type": "X"}]})",
          "normalizer, Sequence: type 'X' is not supported; supported: null, Sequence, NFC");
  refused(R"({"type": "Sequence"})", "'normalizers' is missing");
  refused(R"({"type": "Prepend"})", "'prepend' is missing");
  refused(R"({"type": "Replace", "content": ""})", "'pattern' is missing");
  refused(R"({"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""})",
          "cannot be compiled");
  refused(R"([])", "expected an object");
}

// Each doubles the text: without a limit the last one would take all memory.
TEST(NormalizerTest, GrowthHasALimit) {
  Json part = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  const Json doubled = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(4096, 'a')}};
  for (int i = 0; i < 4; ++i) part["normalizers"].push_back(doubled);
  expect_error<InputError>([&] { normalized(part, "a"); }, "is tokenizer.json damaged?");
}

}  // namespace
}  // namespace halftone
