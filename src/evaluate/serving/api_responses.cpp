#include <algorithm>

#include "evaluate/serving/api.h"

namespace halftone {
namespace {

int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

Json bytes_of(const std::string& text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json chat_token(const std::string& text, double log_probability) {
  return {{"token", text}, {"logprob", log_probability}, {"bytes", bytes_of(text)}};
}

}  // namespace

Json error_body(const std::string& text, int status, const std::string& param) {
  const char* type = status == 401   ? "authentication_error"
                     : status == 429 ? "rate_limit_error"
                     : status >= 500 ? "server_error"
                                     : "invalid_request_error";
  return {{"error",
           {{"message", text},
            {"type", type},
            {"param", param.empty() ? Json() : Json(param)},
            {"code", nullptr}}}};
}

ApiChoice::ApiChoice(const ApiRequest& request, size_t index, const ApiModel& model)
    : request_(request), index_(index), model_(model) {
  const CompletionRequest& sequence = request.sequences[index];
  if (!sequence.echo) return;
  fresh_text_ = model.tokenizer.decode({sequence.prompt.begin(), sequence.prompt.end()});
}

void ApiChoice::take(const JobEvent& event) {
  switch (event.kind) {
    case JobEvent::Kind::kToken:
      fresh_text_ += event.token.text;
      if (!event.token.of_prompt) ++generated_;
      if (request_.logprobs) fresh_.push_back(event.token);
      break;
    case JobEvent::Kind::kEnd:
      fresh_text_ += event.text;
      reason_ = event.reason;
      ended_ = true;
      break;
    case JobEvent::Kind::kFailure:
      throw ApiError(503, event.text);
  }
  if (request_.stream) return;
  text_ += std::exchange(fresh_text_, {});
  tokens_.insert(tokens_.end(), fresh_.begin(), fresh_.end());
  fresh_.clear();
}

std::string ApiChoice::text_of_token(int64_t id) const {
  return model_.tokenizer.decode({static_cast<TokenId>(id)}, /*skip_special=*/false);
}

Json ApiChoice::logprobs_json(const std::vector<ServedToken>& tokens, int64_t offset) const {
  if (!request_.logprobs) return {};
  if (request_.chat) {
    Json content = Json::array();
    for (const ServedToken& token : tokens) {
      Json one = chat_token(text_of_token(token.id), token.log_probability.value_or(0.0));
      one["top_logprobs"] = Json::array();
      for (const auto& [id, value] : token.top) {
        one["top_logprobs"].push_back(chat_token(text_of_token(id), value));
      }
      content.push_back(std::move(one));
    }
    return {{"content", content}};
  }
  Json texts = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const ServedToken& token : tokens) {
    const std::string text = text_of_token(token.id);
    texts.push_back(text);
    values.push_back(token.log_probability ? Json(*token.log_probability) : Json());
    offsets.push_back(offset);
    offset += characters(text);
    if (!token.log_probability) {
      tops.push_back(nullptr);
      continue;
    }
    // Different ids may have the same text: the most probable one speaks for it, and the token that
    // is there for its own.
    Json top = Json::object();
    for (const auto& [id, value] : token.top) {
      const std::string name = text_of_token(id);
      if (!top.contains(name)) top[name] = value;
    }
    if (!top.contains(text)) top[text] = *token.log_probability;
    tops.push_back(std::move(top));
  }
  return {{"tokens", texts},
          {"token_logprobs", values},
          {"top_logprobs", tops},
          {"text_offset", offsets}};
}

Json ApiChoice::choice_json(const std::string& text, const std::vector<ServedToken>& tokens,
                            int64_t offset) const {
  Json choice = {{"index", index_}};
  if (!request_.chat) choice["text"] = text;
  choice["logprobs"] = logprobs_json(tokens, offset);
  choice["finish_reason"] = ended_ ? Json(name_of(reason_)) : Json();
  return choice;
}

Json ApiChoice::whole() const {
  Json choice = choice_json(text_, tokens_, 0);
  if (request_.chat) choice["message"] = {{"role", "assistant"}, {"content", text_}};
  return choice;
}

Json ApiChoice::take_chunk() {
  const std::string text = std::exchange(fresh_text_, {});
  Json choice = choice_json(text, std::exchange(fresh_, {}), sent_characters_);
  sent_characters_ += characters(text);
  if (request_.chat) {
    Json delta = Json::object();
    if (!std::exchange(role_sent_, true)) delta["role"] = "assistant";
    delta["content"] = text;
    choice["delta"] = delta;
  }
  return choice;
}

Json response_frame(const ApiRequest& request, const ApiModel& model, const std::string& id,
                    int64_t created, bool chunk) {
  const char* object = !request.chat ? "text_completion"
                       : chunk       ? "chat.completion.chunk"
                                     : "chat.completion";
  return {{"id", id}, {"object", object}, {"created", created}, {"model", model.name}};
}

Json usage_json(int64_t prompt_tokens, int64_t generated) {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", generated},
          {"total_tokens", prompt_tokens + generated}};
}

}  // namespace halftone
