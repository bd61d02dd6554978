#include "text/post_processor.h"

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {

PostProcessor::PostProcessor(const Json& part, const std::string& source) {
  if (!part.is_null()) add(part, source + ", post_processor");
}

void PostProcessor::add(const Json& part, const std::string& source) {
  const std::string type = part_type(part, source);
  if (type == "Sequence") {
    for (const Json& member : array_member(part, "processors", source)) add(member, source);
  } else if (type == "TemplateProcessing") {
    add_template(part, source + ", TemplateProcessing");
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    add_pair(part, concat(source, ", ", type));
  } else if (type != "ByteLevel") {
    refuse_part(source, concat("type '", type, "'"),
                "Sequence, TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing");
  }
}

void PostProcessor::add_template(const Json& part, const std::string& source) {
  const Json& tokens = object_member(part, "special_tokens", source);
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  int texts = 0;
  for (const Json& item : array_member(part, "single", source)) {
    expect_object(item, source + ", single");
    if (item.contains("Sequence")) {
      ++texts;
      continue;
    }
    const Json& special = object_member(item, "SpecialToken", source + ", single");
    const auto name = json_member<std::string>(special, "id", source + ", single");
    const Json& token = object_member(tokens, name.c_str(), source + ", special_tokens");
    for (const Json& id : array_member(token, "ids", concat(source, ", '", name, "'"))) {
      (texts == 0 ? before : after).push_back(token_id(id, concat(source, ", '", name, "'")));
    }
  }
  if (texts != 1) {
    throw InputError(
        concat(source, ": 'single' must hold the text (Sequence) once, found ", texts, " times"));
  }
  wrap(before, after);
}

// {"cls": ["<s>", 0], "sep": ["</s>", 2]}
void PostProcessor::add_pair(const Json& part, const std::string& source) {
  const auto id_of = [&](const char* key) {
    const Json& pair = array_member(part, key, source);
    if (pair.size() != 2) {
      throw InputError(concat(source, ": '", key, "' must be a token and its id"));
    }
    return token_id(pair[1], concat(source, ", '", key, "'"));
  };
  const TokenId cls = id_of("cls");
  const TokenId sep = id_of("sep");
  wrap({cls}, {sep});
}

// A later part wraps what an earlier one made.
void PostProcessor::wrap(const std::vector<TokenId>& before, const std::vector<TokenId>& after) {
  before_.insert(before_.begin(), before.begin(), before.end());
  after_.insert(after_.end(), after.begin(), after.end());
}

void PostProcessor::ensure_first(TokenId id) {
  if (before_.empty() || before_.front() != id) before_.insert(before_.begin(), id);
}

void PostProcessor::ensure_last(TokenId id) {
  if (after_.empty() || after_.back() != id) after_.push_back(id);
}

}  // namespace halftone
