#include "text/chat_messages.h"

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {
namespace {

void check_part(const Json& part, const std::string& place) {
  expect_object(part, place);
  const auto type = json_member<std::string>(part, "type", place);
  if (type != "text") {
    throw InputError(concat(place, ": expected a part of type 'text', found '", type.substr(0, 40),
                            "': only texts are supported"));
  }
  json_member<std::string>(part, "text", place);
}

void check_content(const Json& message, const std::string& role, const std::string& place) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    if (message.contains("tool_calls")) return;
    throw InputError(concat(place, ": expected 'content' or 'tool_calls', found neither"));
  }
  if (content->is_string() || role == "tool" || role == "ipython") return;
  if (!content->is_array()) {
    throw InputError(concat(place, ": 'content' must be a text or a list of parts, found ",
                            content->type_name()));
  }
  for (size_t i = 0; i < content->size(); ++i) {
    check_part((*content)[i], concat(place, ", content[", i, "]"));
  }
}

}  // namespace

void check_messages(const Json& messages) {
  if (!messages.is_array()) {
    throw InputError(concat("'messages' must be a list, found ", messages.type_name()));
  }
  if (messages.empty()) throw InputError("'messages' is empty: expected one message or more");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string place = concat("messages[", i, "]");
    expect_object(messages[i], place);
    check_content(messages[i], json_member<std::string>(messages[i], "role", place), place);
  }
}

void check_list_of_objects(const Json& value, const char* what) {
  if (value.is_null()) return;
  if (!value.is_array()) {
    throw InputError(concat("'", what, "' must be a list, found ", value.type_name()));
  }
  for (size_t i = 0; i < value.size(); ++i) expect_object(value[i], concat(what, "[", i, "]"));
}

}  // namespace halftone
