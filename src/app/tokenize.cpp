#include <cstdio>
#include <fstream>

#include "app/commands.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "io/megatron_checkpoint.h"
#include "text/tokenizer.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone tokenize --model DIR --input FILE.jsonl [--plain] [--decode]",
                  "Prints one JSON line {\"ids\": [...]} for each line's text.");
  options.group("What");
  options.text("model", "DIR", "", "the folder with the tokenizer");
  options.text("input", "FILE.jsonl", "", "lines with text, or with ids for --decode");
  options.text("text-field", "NAME", "text", "the field that holds the text");
  options.flag("plain", "without special tokens");
  options.flag("decode", "from ids to {\"text\": ...}, special tokens skipped");
  return options;
}

fs::path tokenizer_folder(const fs::path& model) {
  const std::optional<MegatronFolder> distributed = find_megatron(model);
  return distributed && distributed->tokenizer ? *distributed->tokenizer : model;
}

// Ids of a line: {"ids": [...]}, {"input_ids": [...]} or a bare list.
std::vector<TokenId> ids_of(const Json& line, const std::string& place) {
  const Json* list = line.is_array() ? &line : nullptr;
  for (const char* key : {"ids", "input_ids"}) {
    if (line.is_object() && line.contains(key)) list = &line.at(key);
  }
  if (list == nullptr || !list->is_array()) throw InputError(place + ": expected a list of ids");
  std::vector<TokenId> ids;
  for (const Json& id : *list) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX) {
      throw InputError(concat(place, ": expected an id, found ", id.dump().substr(0, 40)));
    }
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

std::string converted(const Json& line, const std::string& place, const Tokenizer& tokenizer,
                      const Options& options) {
  try {
    if (options.get_flag("decode")) {
      // Not every list of ids is text: broken characters become U+FFFD.
      return Json{{"text", tokenizer.decode(ids_of(line, place))}}.dump(
          -1, ' ', false, Json::error_handler_t::replace);
    }
    const std::string& field = options.get("text-field");
    if (!line.is_object()) throw InputError("expected an object with '" + field + "'");
    const auto text = json_member<std::string>(line, field.c_str(), place);
    return Json{{"ids", tokenizer.encode(text, !options.get_flag("plain"))}}.dump();
  } catch (const InputError& error) {
    const std::string what = error.what();
    throw InputError(what.starts_with(place) ? what : place + ": " + what);
  }
}

void run(const Options& options, const World* /*world*/) {
  const std::unique_ptr<Tokenizer> tokenizer =
      load_tokenizer(tokenizer_folder(options.required("model")));
  const std::string& path = options.required("input");
  std::ifstream file(path);
  if (!file) throw InputError(concat("cannot open '", path, "'"));
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string place = concat(path, ", line ", number);
    std::puts(converted(parse_json(text, place), place, *tokenizer, options).c_str());
  }
}

}  // namespace

Command tokenize_command() {
  return {"tokenize", "text to ids and back", false, &options, &run};
}

}  // namespace halftone
