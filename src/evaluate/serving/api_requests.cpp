#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "evaluate/serving/api.h"

namespace halftone {
namespace {

constexpr int64_t kMostLogprobs = 100;
constexpr size_t kMostStops = 16, kLongestStop = 1000;

[[noreturn]] void refuse(const char* key, const std::string& expected, const Json& found) {
  const std::string shown = found.dump(-1, ' ', true, Json::error_handler_t::replace);
  throw ApiError(400, concat("'", key, "': expected ", expected, ", found ", shown.substr(0, 60)),
                 key);
}

// Null where the member is absent or null.
Json member(const Json& body, const char* key) {
  const auto found = body.find(key);
  return found == body.end() ? Json() : *found;
}

int64_t integer(const Json& body, const char* key, int64_t fallback, int64_t least, int64_t most) {
  const Json value = member(body, key);
  if (value.is_null()) return fallback;
  const std::string range = concat("an integer from ", least, " to ", most);
  if (!value.is_number_integer() || (value.is_number_unsigned() && value > INT64_MAX)) {
    refuse(key, range, value);
  }
  const auto number = value.get<int64_t>();
  if (number < least || number > most) refuse(key, range, value);
  return number;
}

double number(const Json& body, const char* key, double fallback, double least, double most) {
  const Json value = member(body, key);
  if (value.is_null()) return fallback;
  const std::string range = concat("a number from ", least, " to ", most);
  if (!value.is_number()) refuse(key, range, value);
  const auto found = value.get<double>();
  if (!(found >= least && found <= most)) refuse(key, range, value);
  return found;
}

bool flag(const Json& body, const char* key, bool fallback) {
  const Json value = member(body, key);
  if (value.is_null()) return fallback;
  if (!value.is_boolean()) refuse(key, "true or false", value);
  return value.get<bool>();
}

// What this server does not do is refused, unless the client asks for nothing of it.
void refuse_unsupported(const Json& body) {
  for (const char* key : {"presence_penalty", "frequency_penalty"}) {
    if (number(body, key, 0.0, -2.0, 2.0) != 0.0)
      refuse(key, "0: penalties are not served", body[key]);
  }
  for (const char* key : {"logit_bias", "suffix"}) {
    const Json value = member(body, key);
    if (!value.is_null() && !value.empty()) refuse(key, "nothing: it is not served", value);
  }
  const Json format = member(body, "response_format");
  if (!format.is_null() && !(format.is_object() && member(format, "type") == "text")) {
    refuse("response_format", "{\"type\": \"text\"}", format);
  }
}

std::vector<std::string> stops_of(const Json& body) {
  const Json value = member(body, "stop");
  std::vector<std::string> stops;
  for (const Json& stop : value.is_array() ? value : Json::array({value})) {
    if (stop.is_null()) continue;
    if (!stop.is_string() || stop.get_ref<const std::string&>().size() > kLongestStop) {
      refuse("stop", "a text or a list of texts", value);
    }
    stops.push_back(stop.get<std::string>());
  }
  if (stops.size() > kMostStops) refuse("stop", concat("at most ", kMostStops, " texts"), value);
  return stops;
}

Sampling sampling_of(const Json& body, double temperature) {
  Sampling sampling;
  sampling.temperature = number(body, "temperature", temperature, 0.0, 100.0);
  sampling.top_p = number(body, "top_p", 1.0, 0.0, 1.0);
  const int64_t top_k = integer(body, "top_k", 0, -1, INT32_MAX);
  sampling.top_k = std::max<int64_t>(0, top_k);
  sampling.seed = static_cast<uint64_t>(integer(body, "seed", 0, INT64_MIN, INT64_MAX));
  return sampling;
}

void check_object(const Json& body) {
  if (!body.is_object()) throw ApiError(400, "the body is no JSON object");
  const Json name = member(body, "model");
  if (!name.is_null() && !name.is_string()) refuse("model", "a text", name);
}

std::vector<int64_t> encoded(const ApiModel& model, const std::string& text, bool special) {
  try {
    const std::vector<TokenId> ids = model.tokenizer.encode(text, special);
    return {ids.begin(), ids.end()};
  } catch (const InputError& error) {
    throw ApiError(400, error.what(), "prompt");
  }
}

std::vector<int64_t> ids_of(const ApiModel& model, const Json& list) {
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= model.vocabulary) {
      refuse("prompt", concat("token ids below ", model.vocabulary), id);
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

// A text, a list of ids, or a list of either.
std::vector<std::vector<int64_t>> prompts_of(const Json& body, const ApiModel& model) {
  const Json value = member(body, "prompt");
  const char* expected = "a text, a list of token ids, or a list of these";
  const auto one = [&](const Json& prompt) {
    if (prompt.is_string()) return encoded(model, prompt.get<std::string>(), /*special=*/true);
    if (!prompt.is_array()) refuse("prompt", expected, prompt);
    return ids_of(model, prompt);
  };
  if (value.is_string()) return {one(value)};
  if (!value.is_array() || value.empty()) refuse("prompt", expected, value);
  if (value[0].is_number()) return {one(value)};
  if (std::ssize(value) > model.most_sequences) {
    refuse("prompt", concat("at most ", model.most_sequences, " prompts"), value.size());
  }
  std::vector<std::vector<int64_t>> prompts;
  for (const Json& prompt : value) prompts.push_back(one(prompt));
  return prompts;
}

// Copies of `like` for each prompt, `n` each.
void add_sequences(const Json& body, const ApiModel& model,
                   const std::vector<std::vector<int64_t>>& prompts, CompletionRequest like,
                   ApiRequest& request) {
  const int64_t n = integer(body, "n", 1, 1, model.most_sequences);
  integer(body, "best_of", n, n, n);
  if (n * std::ssize(prompts) > model.most_sequences) {
    refuse("n", concat("at most ", model.most_sequences, " sequences in all"), n);
  }
  for (const std::vector<int64_t>& prompt : prompts) {
    if (prompt.empty()) throw ApiError(400, "'prompt': there is no token to continue", "prompt");
    const int64_t room = model.length - std::ssize(prompt);
    if (room < (like.max_tokens == 0 ? 0 : 1)) {
      throw ApiError(400,
                     concat("'prompt' has ", prompt.size(), " tokens; this model's context is ",
                            model.length, " tokens, the continuation included"),
                     "prompt");
    }
    like.prompt = prompt;
    const int64_t wanted = like.max_tokens;
    if (wanted < 0) like.max_tokens = room;
    if (wanted > room) {
      throw ApiError(400,
                     concat("'max_tokens' ", wanted, " and the ", prompt.size(),
                            " tokens of the prompt are more than the context of ", model.length),
                     "max_tokens");
    }
    for (int64_t copy = 0; copy < n; ++copy) {
      like.sequence = request.sequences.size();
      request.sequences.push_back(like);
    }
    like.max_tokens = wanted;
  }
}

void read_stream(const Json& body, ApiRequest& request) {
  request.stream = flag(body, "stream", false);
  const Json options = member(body, "stream_options");
  if (options.is_null()) return;
  if (!options.is_object()) refuse("stream_options", "an object", options);
  request.usage_in_stream = flag(options, "include_usage", false);
}

}  // namespace

ApiRequest parse_completion(const Json& body, const ApiModel& model) {
  check_object(body);
  refuse_unsupported(body);
  ApiRequest request;
  CompletionRequest like;
  like.echo = flag(body, "echo", false);
  like.logprobs = integer(body, "logprobs", -1, 0, kMostLogprobs);
  like.max_tokens = integer(body, "max_tokens", 16, like.echo ? 0 : 1, INT32_MAX);
  like.sampling = sampling_of(body, 1.0);
  like.stops = stops_of(body);
  like.ignore_stop_ids = flag(body, "ignore_eos", false);
  request.logprobs = like.logprobs >= 0;
  read_stream(body, request);
  add_sequences(body, model, prompts_of(body, model), like, request);
  return request;
}

ApiRequest parse_chat(const Json& body, const ApiModel& model) {
  check_object(body);
  refuse_unsupported(body);
  if (model.chat == nullptr) {
    throw ApiError(400, "this model has no chat template: use /v1/completions", "messages");
  }
  ApiRequest request;
  request.chat = true;
  CompletionRequest like;
  const bool wants_logprobs = flag(body, "logprobs", false);
  const int64_t top = integer(body, "top_logprobs", 0, 0, kMostLogprobs);
  like.logprobs = wants_logprobs ? top : -1;
  request.logprobs = wants_logprobs;
  const int64_t most = integer(body, "max_tokens", -1, 1, INT32_MAX);
  like.max_tokens = integer(body, "max_completion_tokens", most, 1, INT32_MAX);
  like.sampling = sampling_of(body, 1.0);
  like.stops = stops_of(body);
  like.ignore_stop_ids = flag(body, "ignore_eos", false);
  read_stream(body, request);
  const Json messages = member(body, "messages");
  if (!messages.is_array() || messages.empty()) refuse("messages", "a list of messages", messages);
  ChatOptions how;
  how.add_generation_prompt = flag(body, "add_generation_prompt", true);
  how.tools = member(body, "tools");
  how.documents = member(body, "documents");
  const Json arguments = member(body, "chat_template_kwargs");
  if (!arguments.is_null() && !arguments.is_object()) {
    refuse("chat_template_kwargs", "an object", arguments);
  }
  if (arguments.is_object()) how.arguments = arguments;
  std::string text;
  try {
    text = model.chat->render(messages, how);
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "messages");
  }
  add_sequences(body, model, {encoded(model, text, /*special=*/false)}, like, request);
  return request;
}

}  // namespace halftone
