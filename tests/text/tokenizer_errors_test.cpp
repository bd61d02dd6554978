// Damaged, hostile and unsupported tokenizer.json: an InputError that names the place.
#include <gtest/gtest.h>

#include "tests/text/tokenizer_fixture.h"

namespace halftone {
namespace {

void expect_refused(const Json& file, const std::string& part) {
  expect_error<InputError>([&] { load_from(file, Json::object()); }, part);
  expect_error<InputError>([&] { load_from(file, Json::object()); }, "/tokenizer.json");
}

TEST(TokenizerErrorsTest, Files) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", "{\"model\": ");
  expect_error<InputError>([&] { load_tokenizer(folder.path()); }, "not valid JSON");
  folder.write("tokenizer.json", "[]");
  expect_error<InputError>([&] { load_tokenizer(folder.path()); }, "expected an object");
  folder.write("tokenizer.json", "{}");
  expect_error<InputError>([&] { load_tokenizer(folder.path()); }, "'model' is missing");
}

TEST(TokenizerErrorsTest, Ids) {
  for (const Json& id : {Json(-1), Json((1 << 24) + 1), Json(UINT64_MAX), Json(1.5), Json("1")}) {
    Json file = small_tokenizer();
    file["model"]["vocab"]["dd"] = id;
    expect_refused(file, "model.vocab, token 'dd': expected a token id");
    file = small_tokenizer();
    file["added_tokens"] = {added_token("<x>", 10)};
    file["added_tokens"][0]["id"] = id;
    expect_refused(file, "added_tokens[0], 'id': expected a token id");
  }
  Json file = small_tokenizer();
  file["model"]["vocab"]["dd"] = 3;
  expect_refused(file, "'d' and 'dd' have the same id 3");
  // One id far away must not cost memory for those between.
  file["model"]["vocab"]["dd"] = 1 << 24;
  EXPECT_EQ(load_from(file, Json::object())->vocabulary_size(), (1 << 24) + 1);
}

TEST(TokenizerErrorsTest, AddedTokens) {
  const auto with = [](const std::vector<Json>& tokens) {
    Json file = small_tokenizer();
    file["added_tokens"] = tokens;
    return file;
  };
  expect_refused(with({added_token("<x>", 3)}), "has the id 3, which is 'd' in model.vocab");
  expect_refused(with({added_token("ab", 10)}), "has the id 10, but 5 in model.vocab");
  expect_refused(with({added_token("<x>", 10), added_token("<y>", 10)}), "have the same id 10");
  expect_refused(with({added_token("<x>", 10), added_token("<x>", 11)}), "'<x>' is there twice");
  expect_refused(with({added_token("", 10)}), "'content' is empty");
  expect_refused(with({Json{{"content", "<x>"}}}), "added_tokens[0]: the key 'id' is missing");
  expect_refused(with({Json("x")}), "added_tokens[0]: expected an object");
  Json token = added_token("<x>", 10);
  token["lstrip"] = "no";
  expect_refused(with({token}), "'lstrip' must be true or false");
  Json file = small_tokenizer();
  file["added_tokens"] = "x";
  expect_refused(file, "'added_tokens' must be a list");
}

TEST(TokenizerErrorsTest, Merges) {
  const auto with = [](const Json& merge) {
    Json file = small_tokenizer();
    file["model"]["merges"].push_back(merge);
    return file;
  };
  expect_refused(with("a z"), "model.merges[4]: 'z' is not in the vocabulary");
  expect_refused(with("a d"), "model.merges[4]: 'ad' is not in the vocabulary");
  expect_refused(with("ab"), "model.merges[4]: expected \"a b\"");
  expect_refused(with("a b c"), "model.merges[4]: expected \"a b\"");
  expect_refused(with({"a", "b", "c"}), "model.merges[4]: expected \"a b\"");
  expect_refused(with({"a", 1}), "model.merges[4]: expected \"a b\"");
  Json file = small_tokenizer();
  file["model"]["merges"] = Json::object();
  expect_refused(file, "'merges' must be a list");
}

TEST(TokenizerErrorsTest, UnsupportedModels) {
  const auto with = [](const char* key, const Json& value) {
    Json file = small_tokenizer();
    file["model"][key] = value;
    return file;
  };
  expect_refused(with("type", "WordPiece"), "type 'WordPiece' is not supported; supported: BPE");
  expect_refused(with("dropout", 0.1), "dropout is not supported");
  expect_refused(with("byte_fallback", "yes"), "'byte_fallback' must be true or false");
  expect_refused(with("vocab", Json::array()), "'vocab' must be an object");
}

TEST(TokenizerErrorsTest, UnsupportedParts) {
  const auto with = [](const char* key, const char* json) {
    Json file = small_tokenizer();
    file[key] = parse_json(json, key);
    return file;
  };
  expect_refused(with("normalizer", R"({"type": "BertNormalizer"})"),
                 ", normalizer: type 'BertNormalizer' is not supported");
  expect_refused(with("pre_tokenizer", R"({"type": "UnicodeScripts"})"),
                 ", pre_tokenizer: type 'UnicodeScripts' is not supported; supported: null");
  expect_refused(with("pre_tokenizer", R"({"type": "Split", "behavior": "Dropped",
                     "pattern": {"Regex": "a"}, "invert": false})"),
                 "the behavior 'Dropped' is not supported; supported: Isolated, Removed");
  expect_refused(with("pre_tokenizer", R"({"type": "Split", "behavior": "Isolated",
                     "pattern": {"Regex": "(a"}, "invert": false})"),
                 "'(a' cannot be compiled");
  expect_refused(with("pre_tokenizer", R"({"type": "Split", "behavior": "Isolated",
                     "pattern": "a"})"),
                 "'pattern' must be an object");
  expect_refused(with("decoder", R"({"type": "WordPiece"})"), "type 'WordPiece'");
  expect_refused(with("post_processor", R"({"type": "Other"})"), "type 'Other' is not supported");
  expect_refused(with("post_processor", R"({"type": "BertProcessing", "cls": ["a", 0]})"),
                 "BertProcessing: the key 'sep' is missing");
  expect_refused(with("post_processor", R"({"type": "BertProcessing", "cls": ["a"], "sep": []})"),
                 "'cls' must be a token and its id");
}

TEST(TokenizerErrorsTest, Templates) {
  const auto with = [](const char* single, const char* tokens) {
    Json file = small_tokenizer();
    file["post_processor"] = {{"type", "TemplateProcessing"},
                              {"single", parse_json(single, "single")},
                              {"special_tokens", parse_json(tokens, "tokens")}};
    return file;
  };
  const char* bos = R"([{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}])";
  expect_refused(with(bos, "{}"), "special_tokens: the key '<s>' is missing");
  expect_refused(with(bos, R"({"<s>": {"ids": [77]}})"), "post_processor: no token has the id 77");
  expect_refused(with(bos, R"({"<s>": {"ids": [-1]}})"), "'<s>': expected a token id");
  expect_refused(with("[]", "{}"), "must hold the text (Sequence) once, found 0");
}

TEST(TokenizerErrorsTest, Configuration) {
  const auto refused = [](const Json& config, const std::string& part) {
    expect_error<InputError>([&] { load_from(small_tokenizer(), config); }, part);
  };
  refused({{"bos_token", 3}}, "tokenizer_config.json: 'bos_token' must be a string");
  refused({{"bos_token", Json::object()}}, "tokenizer_config.json: the key 'content' is missing");
  refused({{"add_bos_token", true}}, "'add_bos_token' is true without a bos_token");
  refused({{"add_eos_token", true}}, "'add_eos_token' is true without an eos_token");
  refused(Json::array(), "expected an object");
}

TEST(TokenizerErrorsTest, Texts) {
  const auto tokenizer = load_tokenizer(fixture_folder("llama-3"));
  for (const std::string tail :
       {"\xC0\xAF", "\xED\xA0\x80", "\xE2\x82", "\x80", "\xF4\x90\x80\x80"}) {
    expect_error<InputError>([&] { tokenizer->encode("abc" + tail); }, "not valid UTF-8 at byte 3");
  }
  expect_error<InputError>(
      [&] {
        tokenizer->decode({5, 1663});
      },
      "no token has the id 1663: the vocabulary ends at 1662");
  expect_error<InputError>([&] { tokenizer->decode({-1}); }, "no token has the id -1");
}

}  // namespace
}  // namespace halftone
