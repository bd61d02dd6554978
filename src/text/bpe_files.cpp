#include "text/bpe_files.h"

#include <string>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"
#include "text/json_tokenizer.h"
#include "text/lines.h"

namespace halftone {
namespace {

constexpr const char* kEndOfText = "<|endoftext|>";
constexpr const char* kQwenWords =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json read_merges(const fs::path& path) {
  Json merges = Json::array();
  LineReader lines(path);
  std::string line;
  while (lines.next(line)) {
    if (!line.empty()) merges.push_back(line);
  }
  return merges;
}

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"use_regex", use_regex}};
}

void set_qwen_parts(Json& file) {
  file["normalizer"] = {{"type", "NFC"}};
  const Json words = {{"type", "Split"},
                      {"pattern", {{"Regex", kQwenWords}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  file["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", Json::array({words, byte_level(false, false)})}};
}

// Without a language and a task, as the class does by default.
void set_whisper_template(Json& file, const FindToken& find) {
  Json single = Json::array();
  Json tokens = Json::object();
  const auto add = [&](const char* content) {
    const auto id = find(content);
    if (!id) return;
    single.push_back({{"SpecialToken", {{"id", content}, {"type_id", 0}}}});
    tokens[content] = {{"id", content}, {"ids", {*id}}, {"tokens", {content}}};
  };
  add("<|startoftranscript|>");
  add("<|notimestamps|>");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add(kEndOfText);
  file["post_processor"] = {
      {"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", tokens}};
}

// A token of GPT-2's that the configuration need not name.
void set_default_tokens(Json& config) {
  for (const char* role : {"bos_token", "eos_token", "unk_token"}) {
    if (!config.contains(role)) config[role] = kEndOfText;
  }
}

}  // namespace

std::unique_ptr<Tokenizer> load_bpe_files(const TokenizerFolder& folder) {
  const fs::path vocab_file = folder.directory / "vocab.json";
  const Json vocab = read_json_file(vocab_file);
  expect_object(vocab, vocab_file.string());
  TokenizerFolder known = folder;
  const std::string name = folder.tokenizer_class();
  if (name.empty() || name == "GPT2Tokenizer") set_default_tokens(known.config);
  const FindToken find_in_vocab = [&vocab](std::string_view token) -> std::optional<TokenId> {
    const auto found = vocab.find(std::string(token));
    return found == vocab.end() ? std::nullopt : try_token_id(*found);
  };
  Json file = {{"added_tokens", collect_added_tokens(known, find_in_vocab)},
               {"decoder", byte_level(false, false)},
               {"model",
                {{"type", "BPE"},
                 {"vocab", vocab},
                 {"merges", read_merges(folder.directory / "merges.txt")}}}};
  const bool prefix =
      json_member_or<bool>(folder.config, "add_prefix_space", false, folder.config_source);
  file["pre_tokenizer"] = byte_level(prefix, true);
  if (name == "Qwen2Tokenizer") {
    set_qwen_parts(file);
  } else if (name == "WhisperTokenizer") {
    const FindToken find = [&](std::string_view token) -> std::optional<TokenId> {
      for (const Json& added : file["added_tokens"]) {
        if (added["content"] == token) return try_token_id(added["id"]);
      }
      return find_in_vocab(token);
    };
    set_whisper_template(file, find);
  } else if (!name.empty() && name != "GPT2Tokenizer") {
    refuse_part(folder.config_source,
                concat("tokenizer_class '", name, "' with vocab.json and merges.txt"),
                "GPT2Tokenizer, Qwen2Tokenizer, WhisperTokenizer; others need a tokenizer.json");
  }
  return std::make_unique<JsonTokenizer>(file, vocab_file.string(), known.config,
                                         known.config_source);
}

}  // namespace halftone
