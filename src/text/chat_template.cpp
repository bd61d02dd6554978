#include "text/chat_template.h"

#include "core/error.h"
#include "core/log.h"
#include "text/chat_messages.h"
#include "text/json_shape.h"
#include "text/loose_files.h"
#include "text/special_tokens.h"

namespace halftone {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{4} << 20;
constexpr const char* kDefault = "default";

struct NamedText {
  std::string name;
  std::string text;
  std::string source;
};

Json tokens_of(const TokenizerFolder& folder) {
  Json tokens = Json::object();
  for (const char* role : kTokenRoles) {
    const auto content = token_content(folder.config, role, folder.config_source);
    if (content) tokens[role] = *content;
  }
  return tokens;
}

NamedText read_text(const std::string& name, const fs::path& file) {
  return {name, read_text_file(file, kMaxFileBytes), file.string()};
}

std::vector<NamedText> from_files(const fs::path& directory) {
  std::vector<NamedText> found;
  const fs::path file = directory / "chat_template.jinja";
  if (fs::exists(file)) found.push_back(read_text(kDefault, file));
  const fs::path more = directory / "additional_chat_templates";
  if (!fs::is_directory(more)) return found;
  std::error_code error;
  const fs::directory_iterator entries(more, error);
  if (error) throw ReadError(concat("cannot read '", more.string(), "': ", error.message()));
  for (const auto& entry : entries) {
    if (entry.path().extension() != ".jinja") continue;
    found.push_back(read_text(entry.path().stem().string(), entry.path()));
  }
  return found;
}

// One text, or a list of {"name": ..., "template": ...}.
std::vector<NamedText> from_json(const Json& object, const std::string& source) {
  const auto value = object.find("chat_template");
  if (value == object.end() || value->is_null()) return {};
  const std::string place = source + ", chat_template";
  if (!value->is_array()) {
    return {{kDefault, json_member<std::string>(object, "chat_template", source), place}};
  }
  std::vector<NamedText> found;
  for (const Json& item : *value) {
    expect_object(item, place);
    const auto name = json_member<std::string>(item, "name", place);
    found.push_back(
        {name, json_member<std::string>(item, "template", place), concat(place, " '", name, "'")});
  }
  return found;
}

std::vector<NamedText> find_texts(const TokenizerFolder& folder) {
  std::vector<NamedText> found = from_files(folder.directory);
  if (found.empty()) found = from_json(folder.config, folder.config_source);
  const fs::path file = folder.directory / "chat_template.json";
  if (!found.empty() || !fs::exists(file)) return found;
  const Json object = read_json_file(file);
  expect_object(object, file.string());
  return from_json(object, file.string());
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

}  // namespace

bool has_chat_template(const fs::path& directory) {
  return !find_texts(read_tokenizer_folder(directory)).empty();
}

ChatTemplate::ChatTemplate(const std::string& text, Json special_tokens, const std::string& source)
    : ChatTemplate(source, std::move(special_tokens)) {
  add(kDefault, text, source);
}

void ChatTemplate::add(const std::string& name, const std::string& text,
                       const std::string& source) {
  if (!templates_.emplace(name, jinja::Template(text, source)).second) {
    throw InputError(concat(source_, ": two chat templates have the name '", name, "'"));
  }
}

ChatTemplate ChatTemplate::load(const fs::path& directory) {
  const TokenizerFolder folder = read_tokenizer_folder(directory);
  ChatTemplate loaded(directory.string(), tokens_of(folder));
  for (const NamedText& found : find_texts(folder))
    loaded.add(found.name, found.text, found.source);
  if (!loaded.templates_.empty()) return loaded;
  throw InputError(concat("'", directory.string(),
                          "': the model has no chat template (looked for chat_template.jinja, for "
                          "'chat_template' in tokenizer_config.json, and for chat_template.json): "
                          "it may be a base model; name one with --chat-template"));
}

ChatTemplate ChatTemplate::load(const fs::path& directory, const fs::path& file) {
  return {read_text_file(file, kMaxFileBytes), tokens_of(read_tokenizer_folder(directory)),
          file.string()};
}

const jinja::Template& ChatTemplate::choose(const ChatOptions& options) const {
  const bool tools = !options.tools.is_null() && templates_.contains("tool_use");
  const std::string name = !options.name.empty() ? options.name
                           : tools               ? std::string("tool_use")
                                                 : kDefault;
  const auto found = templates_.find(name);
  if (found != templates_.end()) return found->second;
  std::string known;
  for (const auto& [key, value] : templates_) known += (known.empty() ? "" : ", ") + key;
  throw InputError(concat(source_, ": there is no chat template '", name, "'; there are: ", known));
}

std::string ChatTemplate::render(const Json& messages, const ChatOptions& options) const {
  check_messages(messages);
  check_list_of_objects(options.tools, "tools");
  check_list_of_objects(options.documents, "documents");
  expect_object(options.arguments, "arguments of the chat template");
  Json variables = special_tokens_;
  for (const auto& [key, value] : options.arguments.items()) variables[key] = value;
  const auto give = [&](const char* name, const Json& value) {
    if (options.arguments.contains(name)) {
      throw InputError(concat("the argument '", name, "' of the chat template is given already"));
    }
    variables[name] = value;
  };
  give("messages", messages);
  give("tools", options.tools);
  give("documents", options.documents);
  give("add_generation_prompt", options.add_generation_prompt);
  return choose(options).render(variables, options.now ? options.now : &local_time);
}

}  // namespace halftone
