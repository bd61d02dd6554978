// Golden ids of the tokenizers library (0.23.3) on a file in the structure of Llama 3.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/text/tokenizer_fixture.h"
#include "text/lines.h"

namespace halftone {
namespace {

std::vector<Json> golden_lines(const std::string& name) {
  LineReader reader(fixture_folder("llama-3") / name);
  std::vector<Json> lines;
  std::string line;
  while (reader.next(line)) lines.push_back(parse_json(line, name));
  return lines;
}

using Ids = std::vector<TokenId>;

TEST(TokenizerGoldenTest, EncodesAndDecodesLikeTheLibrary) {
  const auto tokenizer = load_tokenizer(fixture_folder("llama-3"));
  const std::vector<Json> lines = golden_lines("golden.jsonl");
  ASSERT_EQ(lines.size(), 156U);
  for (const Json& line : lines) {
    const auto text = line["text"].get<std::string>();
    const Ids ids = line["ids"].get<Ids>();
    EXPECT_EQ(tokenizer->encode(text), ids) << line["text"].dump();
    EXPECT_EQ(tokenizer->encode(text, false), line["ids_plain"].get<Ids>()) << line["text"].dump();
    EXPECT_EQ(tokenizer->decode(ids), line["decoded"].get<std::string>());
  }
}

TEST(TokenizerGoldenTest, DecodesCutCharactersLikeTheLibrary) {
  const auto tokenizer = load_tokenizer(fixture_folder("llama-3"));
  const std::vector<Json> lines = golden_lines("decode.jsonl");
  ASSERT_EQ(lines.size(), 40U);
  for (const Json& line : lines) {
    EXPECT_EQ(tokenizer->decode(line["ids"].get<Ids>(), line["skip_special_tokens"].get<bool>()),
              line["decoded"].get<std::string>())
        << line.dump();
  }
}

TEST(TokenizerGoldenTest, KnowsItsSpecialTokens) {
  const auto tokenizer = load_tokenizer(fixture_folder("llama-3"));
  EXPECT_EQ(tokenizer->vocabulary_size(), 1624 + 39);
  EXPECT_EQ(tokenizer->bos_id(), 1624);
  ASSERT_TRUE(tokenizer->eos_id().has_value());
  EXPECT_EQ(tokenizer->decode({*tokenizer->eos_id()}, false), "<|eot_id|>");
  EXPECT_EQ(tokenizer->decode({tokenizer->pad_id()}, false), "<|finetune_right_pad_id|>");
}

TEST(TokenizerGoldenTest, EncodesOnSeveralThreads) {
  const auto tokenizer = load_tokenizer(fixture_folder("llama-3"));
  const std::vector<Json> lines = golden_lines("golden.jsonl");
  std::vector<int> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (int& count : wrong) {
      threads.emplace_back([&lines, &tokenizer, &count] {
        for (const Json& line : lines) {
          count += tokenizer->encode(line["text"].get<std::string>()) != line["ids"].get<Ids>();
        }
      });
    }
  }
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

// Would take minutes if merging or splitting were quadratic.
TEST(TokenizerGoldenTest, LongWordsTakeNoQuadraticTime) {
  const auto tokenizer = load_tokenizer(fixture_folder("llama-3"));
  for (const std::string unit : {"a", " ", "ab", "\n", "'", "\xE4\xB8\xAD"}) {
    std::string text;
    while (text.size() < 600'000) text += unit;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

}  // namespace
}  // namespace halftone
