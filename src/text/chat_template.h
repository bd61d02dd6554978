#pragma once

#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "text/jinja_template.h"

namespace halftone {

struct ChatOptions {
  bool add_generation_prompt = false;
  Json tools;                       // a list of JSON schemas, or null
  Json documents;                   // a list of objects, or null
  Json arguments = Json::object();  // of the template's own, such as enable_thinking
  std::string name;                 // of one of several templates; empty: as transformers chooses
  std::function<std::tm()> now = nullptr;  // for templates that print the date; null: local time
};

// How a model writes a conversation: the same text as transformers' apply_chat_template.
class ChatTemplate {
 public:
  // `special_tokens` ({"bos_token": "<s>", ...}) are variables of the template. InputError naming
  // `source` and a line where it cannot be read.
  ChatTemplate(const std::string& text, Json special_tokens, const std::string& source);

  // Of a model's folder: chat_template.jinja with additional_chat_templates/*.jinja, else
  // "chat_template" of tokenizer_config.json (one, or a list with names), else chat_template.json.
  // InputError where there is none.
  static ChatTemplate load(const fs::path& directory);
  // The text is `file`; the special tokens are those of the model's folder.
  static ChatTemplate load(const fs::path& directory, const fs::path& file);

  // `messages` is a list of objects with a "role" and a "content": a text, or a list of parts of
  // type "text". A message with tool calls needs no content, and a tool's may be any value. The
  // rendered text holds the special tokens: it is tokenized without adding any. InputError where
  // the messages are no such list, and where the template fails or refuses them.
  std::string render(const Json& messages, const ChatOptions& options = {}) const;

 private:
  ChatTemplate(std::string source, Json special_tokens)
      : source_(std::move(source)), special_tokens_(std::move(special_tokens)) {}
  void add(const std::string& name, const std::string& text, const std::string& source);
  const jinja::Template& choose(const ChatOptions& options) const;

  std::string source_;
  Json special_tokens_;
  std::map<std::string, jinja::Template> templates_;
};

// Whether the folder has one.
bool has_chat_template(const fs::path& directory);

}  // namespace halftone
