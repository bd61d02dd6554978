// Folders without a tokenizer.json: tokenizer.model through the SentencePiece library, and
// vocab.json with merges.txt. Golden ids as in tokenizer_golden_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/text/tokenizer_fixture.h"
#include "text/lines.h"

namespace halftone {
namespace {

using Ids = std::vector<TokenId>;
using testing::ElementsAre;

std::vector<Json> golden_lines(const std::string& kind) {
  LineReader reader(fixture_folder(kind) / "golden.jsonl");
  std::vector<Json> lines;
  std::string line;
  while (reader.next(line)) lines.push_back(parse_json(line, kind));
  return lines;
}

Json fixture_json(const std::string& kind, const std::string& name) {
  return read_json_file(fixture_folder(kind) / name);
}

TEST(LooseFilesTest, AnEmptyFolderNamesWhatIsLookedFor) {
  const TemporaryFolder folder;
  EXPECT_FALSE(has_tokenizer(folder.path()));
  expect_error<InputError>([&] { load_tokenizer(folder.path()); },
                           "looked for tokenizer.json, tokenizer.model, vocab.json");
}

// vocab.json and merges.txt of a fixture, with its configuration.
void write_bpe_files(const std::string& kind, const TemporaryFolder& folder) {
  const Json file = fixture_json(kind, "tokenizer.json");
  folder.write("vocab.json", file["model"]["vocab"].dump());
  std::string merges = "#version: 0.2\n";
  for (const Json& merge : file["model"]["merges"]) {
    merges += merge.is_string() ? merge.get<std::string>()
                                : merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    merges += "\n";
  }
  folder.write("merges.txt", merges);
  Json config = fixture_json(kind, "tokenizer_config.json");
  Json& decoder = config["added_tokens_decoder"];
  for (const Json& token : file["added_tokens"]) {
    Json entry = token;
    entry.erase("id");
    decoder[std::to_string(token["id"].get<int>())] = entry;
  }
  folder.write("tokenizer_config.json", config.dump());
}

void expect_bpe_files(const std::string& kind) {
  const TemporaryFolder folder;
  write_bpe_files(kind, folder);
  EXPECT_TRUE(has_tokenizer(folder.path()));
  const auto tokenizer = load_tokenizer(folder.path());
  for (const Json& line : golden_lines(kind)) {
    const Ids ids = line["ids"].get<Ids>();
    EXPECT_EQ(tokenizer->encode(line["text"].get<std::string>()), ids) << line["text"].dump();
    EXPECT_EQ(tokenizer->decode(ids), line["decoded"].get<std::string>());
  }
}

TEST(BpeFilesTest, Gpt2) {
  expect_bpe_files("gpt2");
}

TEST(BpeFilesTest, Whisper) {
  expect_bpe_files("whisper");
}

#ifdef HALFTONE_HAS_ICU
TEST(BpeFilesTest, Qwen) {
  expect_bpe_files("qwen3");
}
#endif

TEST(BpeFilesTest, Gpt2NeedsNoConfiguration) {
  const TemporaryFolder folder;
  folder.write("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})");
  folder.write("merges.txt", "a b\n");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_THAT(tokenizer->encode("ab<|endoftext|>a"), ElementsAre(2, 3, 0));
  EXPECT_EQ(tokenizer->eos_id(), 3);
  EXPECT_EQ(tokenizer->decode({2, 3, 0}), "aba");
}

TEST(BpeFilesTest, RefusesDamage) {
  const TemporaryFolder folder;
  folder.write("vocab.json", R"({"a": 0, "b": 1})");
  const auto refused = [&](const std::string& message) {
    expect_error<InputError>([&] { load_tokenizer(folder.path()); }, message);
  };
  refused("merges.txt");
  folder.write("merges.txt", "a b\n");
  refused("'ab' is not in the vocabulary");
  folder.write("merges.txt", "");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer"})");
  refused("tokenizer_class 'BertTokenizer' with vocab.json and merges.txt is not supported");
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "<x>"}}})");
  refused("added_tokens_decoder, 'x': expected a token id");
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"5": {}}})");
  refused("added_tokens_decoder, '5': the key 'content' is missing");
  folder.write("tokenizer_config.json", R"({"additional_special_tokens": "<x>"})");
  refused("'additional_special_tokens' must be a list");
  folder.write("tokenizer_config.json", "{}");
  folder.write("added_tokens.json", R"({"<x>": -5})");
  refused("added_tokens.json, '<x>': expected a token id");
  folder.write("added_tokens.json", R"({"<x>": 0})");
  refused("'<x>' has the id 0, which is 'a'");
  folder.write("added_tokens.json", R"({"<x>": 2})");
  folder.write("special_tokens_map.json", R"({"eos_token": "<x>"})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_THAT(tokenizer->encode("a<x>b"), ElementsAre(0, 2, 1));
  folder.write("vocab.json", "[]");
  refused("expected an object");
}

#ifdef HALFTONE_HAS_SENTENCEPIECE

void copy_model(const std::string& kind, const TemporaryFolder& folder) {
  fs::copy(fixture_folder(kind) / "tokenizer.model", folder.path() / "tokenizer.model",
           fs::copy_options::overwrite_existing);
}

std::unique_ptr<Tokenizer> load_model(const std::string& kind, const Json& config) {
  const TemporaryFolder folder;
  copy_model(kind, folder);
  folder.write("tokenizer_config.json", config.dump());
  return load_tokenizer(folder.path());
}

std::unique_ptr<Tokenizer> load_model(const std::string& kind) {
  return load_model(kind, fixture_json(kind, "tokenizer_config.json"));
}

bool holds_added_token(const std::string& kind, const std::string& text) {
  const Json file = fixture_json(kind, "tokenizer.json");
  for (const Json& token : file["added_tokens"]) {
    if (text.find(token["content"].get<std::string>()) != std::string::npos) return true;
  }
  return false;
}

class SentencePieceTest : public testing::TestWithParam<const char*> {};

TEST_P(SentencePieceTest, EncodesLikeTheLibrary) {
  const std::string kind = GetParam();
  const auto tokenizer = load_model(kind);
  int compared = 0;
  for (const Json& line : golden_lines(kind)) {
    const auto text = line["text"].get<std::string>();
    if (!line.contains("ids_spm") && holds_added_token(kind, text)) continue;
    ++compared;
    const Json& expected = line.contains("ids_spm") ? line["ids_spm"] : line["ids_plain"];
    EXPECT_EQ(tokenizer->encode(text, false), expected.get<Ids>()) << line["text"].dump();
  }
  EXPECT_GT(compared, 100);
#ifndef HALFTONE_HAS_ICU
  if (kind == "t5") GTEST_SKIP() << "the normalizer of its tokenizer.json needs ICU";
#endif
  EXPECT_EQ(tokenizer->vocabulary_size(), load_tokenizer(fixture_folder(kind))->vocabulary_size());
}

INSTANTIATE_TEST_SUITE_P(Kinds, SentencePieceTest,
                         testing::Values("llama-2", "mixtral", "mistral", "phi-3", "gemma-3", "t5"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// With the space after every added token, as tokenizer.json has it for these.
TEST(SentencePieceTokensTest, AddedTokensOfLlama2AndGemma) {
  for (const std::string kind : {"llama-2", "mixtral", "gemma-3"}) {
    const auto tokenizer = load_model(kind);
    for (const Json& line : golden_lines(kind)) {
      if (line.contains("ids_spm")) continue;
      const Ids ids = line["ids"].get<Ids>();
      EXPECT_EQ(tokenizer->encode(line["text"].get<std::string>()), ids) << line["text"].dump();
      EXPECT_EQ(tokenizer->decode(ids), line["decoded"].get<std::string>()) << kind;
    }
  }
}

TEST(SentencePieceTokensTest, LegacyPutsASpaceAfterAddedTokens) {
  Json config = fixture_json("llama-2", "tokenizer_config.json");
  const auto legacy = load_model("llama-2", config);
  const auto json = load_tokenizer(fixture_folder("llama-2"));
  EXPECT_EQ(legacy->encode("a</s>b"), json->encode("a</s>b"));
  config["legacy"] = false;
  const auto modern = load_model("llama-2", config);
  const Ids ids = modern->encode("a</s>b");
  EXPECT_NE(ids, legacy->encode("a</s>b"));
  EXPECT_EQ(modern->encode("ab c"), legacy->encode("ab c"));
  EXPECT_EQ(modern->decode(ids, false), "<s> a</s>b");
  EXPECT_EQ(modern->decode(ids), "ab");
}

TEST(SentencePieceTokensTest, ClassesAddTheirTokens) {
  const auto encode = [](const char* kind, const Json& config) {
    return load_model(kind, config)->encode("a", true);
  };
  const Ids plain = load_model("llama-2", Json::object())->encode("a");
  ASSERT_EQ(plain.size(), 1U);
  EXPECT_THAT(encode("llama-2", {{"tokenizer_class", "LlamaTokenizerFast"}}),
              ElementsAre(1, plain[0]));
  EXPECT_THAT(encode("llama-2", {{"tokenizer_class", "LlamaTokenizer"}, {"add_bos_token", false}}),
              ElementsAre(plain[0]));
  EXPECT_THAT(encode("llama-2", {{"add_eos_token", true}}), ElementsAre(plain[0], 2));
  EXPECT_EQ(encode("t5", {{"tokenizer_class", "T5Tokenizer"}}).back(), 1);
}

TEST(SentencePieceTokensTest, SentinelsOfT5) {
  const auto tokenizer = load_model("t5", {{"tokenizer_class", "T5Tokenizer"}});
  EXPECT_EQ(tokenizer->vocabulary_size(), 1600);
  EXPECT_EQ(tokenizer->encode("<extra_id_0>", false), Ids{1599});
  EXPECT_EQ(tokenizer->decode({1500}, false), "<extra_id_99>");
  const auto few = load_model("t5", {{"tokenizer_class", "T5Tokenizer"}, {"extra_ids", 2}});
  EXPECT_EQ(few->encode("<extra_id_0>", false), Ids{1501});
  expect_error<InputError>(
      [] {
        load_model("t5", {{"tokenizer_class", "T5Tokenizer"}, {"extra_ids", int64_t{1} << 40}});
      },
      "'extra_ids' is");
}

TEST(SentencePieceTokensTest, RefusesDamage) {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", "no model");
  expect_error<InputError>([&] { load_tokenizer(folder.path()); },
                           "tokenizer.model: not a SentencePiece model");
  copy_model("llama-2", folder);
  const std::string whole = read_text_file(folder.path() / "tokenizer.model");
  for (const size_t size : {size_t{0}, size_t{100}, whole.size() / 2}) {
    folder.write("tokenizer.model", whole.substr(0, size));
    expect_error<InputError>([&] { load_tokenizer(folder.path()); }, "not a SentencePiece model");
  }
  expect_error<InputError>(
      [] {
        load_model("t5", {{"tokenizer_class", "XLMRobertaTokenizer"}});
      },
      "tokenizer_class 'XLMRobertaTokenizer' without a tokenizer.json");
  const auto tokenizer = load_model("llama-2");
  expect_error<InputError>([&] { tokenizer->encode("a\xFF"); }, "not valid UTF-8 at byte 1");
  expect_error<InputError>([&] { tokenizer->decode({1600}); }, "no token has the id 1600");
  expect_error<InputError>([&] { tokenizer->decode({-1}); }, "no token has the id -1");
}

#else

TEST(SentencePieceTest, SaysHowToGetTheLibrary) {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", "");
  expect_error<InputError>([&] { load_tokenizer(folder.path()); }, "install libsentencepiece-dev");
}

#endif

}  // namespace
}  // namespace halftone
