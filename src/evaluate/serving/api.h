#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/json.h"
#include "evaluate/serving/job.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace halftone {

// What a client is told instead of an answer.
struct ApiError : std::runtime_error {
  ApiError(int status, const std::string& text, std::string param = {})
      : std::runtime_error(text), status(status), param(std::move(param)) {}
  int status;         // of HTTP, 4xx or 503
  std::string param;  // the member of the body that is wrong
};
Json error_body(const std::string& text, int status, const std::string& param = {});

// What requests are checked against. Outlives the API's objects.
struct ApiModel {
  std::string name;
  const Tokenizer& tokenizer;
  int64_t vocabulary = 0;
  int64_t length = 0;                  // tokens of a sequence, its continuation included
  int64_t most_sequences = 128;        // of one request
  const ChatTemplate* chat = nullptr;  // null: it has none
};

// The body of POST /v1/completions or /v1/chat/completions, checked.
struct ApiRequest {
  std::vector<CompletionRequest> sequences;  // `n` of each prompt, one behind the other
  bool chat = false;
  bool stream = false;
  bool usage_in_stream = false;
  bool logprobs = false;
};
// ApiErrors name the member, what was expected and found.
ApiRequest parse_completion(const Json& body, const ApiModel& model);
ApiRequest parse_chat(const Json& body, const ApiModel& model);

// One answer being put together: of a sequence of a request.
class ApiChoice {
 public:
  ApiChoice(const ApiRequest& request, size_t index, const ApiModel& model);

  // Takes the next event. Failures are thrown as ApiErrors.
  void take(const JobEvent& event);
  bool ended() const { return ended_; }
  // What came since the last call, as a chunk of a stream ("choices" of one element).
  Json take_chunk();
  // All of it, as an element of "choices".
  Json whole() const;
  int64_t generated() const { return generated_; }

 private:
  Json logprobs_json(const std::vector<ServedToken>& tokens, int64_t offset) const;
  Json choice_json(const std::string& text, const std::vector<ServedToken>& tokens,
                   int64_t offset) const;
  std::string text_of_token(int64_t id) const;

  const ApiRequest& request_;
  size_t index_;
  const ApiModel& model_;
  std::string text_, fresh_text_;
  std::vector<ServedToken> tokens_, fresh_;
  int64_t sent_characters_ = 0;
  int64_t generated_ = 0;
  bool ended_ = false;
  bool role_sent_ = false;
  FinishReason reason_ = FinishReason::kLength;
};

// The frame around choices: "id", "object", "created", "model".
Json response_frame(const ApiRequest& request, const ApiModel& model, const std::string& id,
                    int64_t created, bool chunk);
Json usage_json(int64_t prompt_tokens, int64_t generated);

}  // namespace halftone
