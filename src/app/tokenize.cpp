#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>

#include "app/commands.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "io/megatron_checkpoint.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace halftone {
namespace {

Options options() {
  Options options("halftone tokenize --model DIR --input FILE.jsonl [--plain] [--decode] [--chat]",
                  "Prints one JSON line {\"ids\": [...]} for each line's text.");
  options.group("What");
  options.text("model", "DIR", "", "the folder with the tokenizer");
  options.text("input", "FILE.jsonl", "", "lines with text, or with ids for --decode");
  options.text("text-field", "NAME", "text", "the field that holds the text");
  options.flag("plain", "without special tokens");
  options.flag("decode", "from ids to {\"text\": ...}, special tokens skipped");
  options.group("Conversations");
  options.flag("chat",
               "lines are {\"messages\": [...]}, \"tools\" and \"documents\" if wanted, "
               "written as the model's chat template does");
  options.text("chat-template", "FILE|NAME", "",
               "a template in a file instead of the model's, or the name of one of the model's");
  options.text("chat-arguments", "JSON", "{}",
               "variables of the template: '{\"enable_thinking\": false}'");
  options.flag("generation-prompt", "ends with the start of the assistant's next message");
  options.flag("text", "prints {\"text\": ...}, what the template writes, instead of ids");
  options.text("date", "YYYY-MM-DD", "", "the day for templates that name it; default: today");
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

std::tm day_of(const std::string& text) {
  int parts[3] = {};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    if (i > 0 && at != end && *at == '-') ++at;
    at = std::from_chars(at, end, parts[i]).ptr;
  }
  const std::chrono::year_month_day day{std::chrono::year(parts[0]),
                                        std::chrono::month(static_cast<unsigned>(parts[1])),
                                        std::chrono::day(static_cast<unsigned>(parts[2]))};
  if (at != end || !day.ok()) {
    throw UsageError(concat("--date: expected YYYY-MM-DD, found '", text, "'"));
  }
  const std::time_t time = std::chrono::system_clock::to_time_t(std::chrono::sys_days(day));
  std::tm result{};
  gmtime_r(&time, &result);
  return result;
}

// What --chat makes of a line.
class Conversations {
 public:
  explicit Conversations(const Options& options) : template_(load(options)) {
    chat_.add_generation_prompt = options.get_flag("generation-prompt");
    chat_.arguments = parse_json(options.get("chat-arguments"), "--chat-arguments");
    if (!is_file(options)) chat_.name = options.get("chat-template");
    if (options.get("date").empty()) return;
    chat_.now = [day = day_of(options.get("date"))] { return day; };
  }

  std::string text(const Json& line) const {
    if (!line.is_object() || !line.contains("messages")) {
      throw InputError("expected an object with 'messages'");
    }
    ChatOptions chat = chat_;
    if (line.contains("tools")) chat.tools = line["tools"];
    if (line.contains("documents")) chat.documents = line["documents"];
    return template_.render(line["messages"], chat);
  }

 private:
  static bool is_file(const Options& options) { return fs::exists(options.get("chat-template")); }
  static ChatTemplate load(const Options& options) {
    const fs::path model = tokenizer_folder(options.required("model"));
    return is_file(options) ? ChatTemplate::load(model, options.get("chat-template"))
                            : ChatTemplate::load(model);
  }

  ChatTemplate template_;
  ChatOptions chat_;
};

// Turns a line into the line to print; errors do not name the place yet.
using Convert = std::function<std::string(const Json& line, const std::string& place)>;

void check_options(const Options& options) {
  const bool chat = options.get_flag("chat");
  for (const char* name : {"generation-prompt", "text", "decode", "plain"}) {
    const std::string_view flag = name;
    const bool of_chat = flag == "generation-prompt" || flag == "text";
    if (!options.get_flag(name) || of_chat == chat) continue;
    throw UsageError(concat("--", name, chat ? " is not for --chat" : " needs --chat"));
  }
  for (const char* name : {"chat-template", "chat-arguments", "date"}) {
    if (!chat && options.given(name)) throw UsageError(concat("--", name, " needs --chat"));
  }
}

Convert make_chat_convert(const Options& options) {
  const auto conversations = std::make_shared<const Conversations>(options);
  if (options.get_flag("text")) {
    return [conversations](const Json& line, const std::string& /*place*/) {
      return Json{{"text", conversations->text(line)}}.dump();
    };
  }
  const std::shared_ptr<const Tokenizer> tokenizer =
      load_tokenizer(tokenizer_folder(options.required("model")));
  return [tokenizer, conversations](const Json& line, const std::string& /*place*/) {
    // The template writes the special tokens.
    return Json{{"ids", tokenizer->encode(conversations->text(line), false)}}.dump();
  };
}

Convert make_convert(const Options& options) {
  if (options.get_flag("chat")) return make_chat_convert(options);
  const std::shared_ptr<const Tokenizer> tokenizer =
      load_tokenizer(tokenizer_folder(options.required("model")));
  if (options.get_flag("decode")) {
    return [tokenizer](const Json& line, const std::string& place) {
      // Not every list of ids is text: broken characters become U+FFFD.
      return Json{{"text", tokenizer->decode(ids_of(line, place))}}.dump(
          -1, ' ', false, Json::error_handler_t::replace);
    };
  }
  return [tokenizer, field = options.get("text-field"), plain = options.get_flag("plain")](
             const Json& line, const std::string& place) {
    if (!line.is_object()) throw InputError("expected an object with '" + field + "'");
    const auto text = json_member<std::string>(line, field.c_str(), place);
    return Json{{"ids", tokenizer->encode(text, !plain)}}.dump();
  };
}

std::string converted(const std::string& text, const std::string& place, const Convert& convert) {
  const Json line = parse_json(text, place);
  try {
    return convert(line, place);
  } catch (const InputError& error) {
    const std::string what = error.what();
    throw InputError(what.starts_with(place) ? what : place + ": " + what);
  }
}

void run(const Options& options, const World* /*world*/) {
  check_options(options);
  const Convert convert = make_convert(options);
  const std::string& path = options.required("input");
  std::ifstream file(path);
  if (!file) throw InputError(concat("cannot open '", path, "'"));
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string place = concat(path, ", line ", number);
    std::puts(converted(text, place, convert).c_str());
  }
}

}  // namespace

Command tokenize_command() {
  return {"tokenize", "text to ids and back", false, &options, &run};
}

}  // namespace halftone
