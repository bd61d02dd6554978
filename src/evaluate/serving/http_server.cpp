#include "evaluate/serving/http_server.h"

#include <httplib.h>

#include <chrono>
#include <deque>
#include <thread>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "evaluate/serving/metrics.h"

namespace halftone {
namespace {

using httplib::Request;
using httplib::Response;
using std::chrono::milliseconds;

constexpr milliseconds kWait{200};
constexpr const char* kJson = "application/json";
constexpr const char* kEvents = "text/event-stream";

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int64_t now_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// A request whose sequences are being continued.
class Answer {
 public:
  Answer(ApiRequest request, const ApiModel& model, std::string id)
      : request_(std::move(request)), model_(model), id_(std::move(id)), created_(now_seconds()) {
    for (size_t i = 0; i < request_.sequences.size(); ++i) {
      jobs_.push_back(std::make_shared<Job>(request_.sequences[i]));
      choices_.emplace_back(request_, i, model_);
      prompt_tokens_ += std::ssize(request_.sequences[i].prompt);
    }
  }
  ~Answer() {
    for (const std::shared_ptr<Job>& job : jobs_) job->cancel();
  }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  const std::vector<std::shared_ptr<Job>>& jobs() const { return jobs_; }
  bool streams() const { return request_.stream; }

  // Waits for everything.
  Json whole() {
    for (size_t i = 0; i < jobs_.size(); ++i) {
      while (!choices_[i].ended()) {
        if (const auto event = jobs_[i]->next(kWait)) choices_[i].take(*event);
      }
    }
    Json body = response_frame(request_, model_, id_, created_, /*chunk=*/false);
    body["choices"] = Json::array();
    for (const ApiChoice& choice : choices_) body["choices"].push_back(choice.whole());
    body["usage"] = usage();
    return body;
  }

  // The next piece of the stream; empty when nothing came for a while. Sets `ended` with the last.
  std::string next_chunk(bool& ended) {
    ended = next_ == jobs_.size();
    if (ended) return (request_.usage_in_stream ? usage_chunk() : "") + "data: [DONE]\n\n";
    std::string text;
    const milliseconds wait = kWait / std::ssize(jobs_);
    for (size_t i = next_; i < jobs_.size(); ++i) {
      if (choices_[i].ended()) continue;
      const auto event = jobs_[i]->next(std::max(wait, milliseconds(1)));
      if (!event) continue;
      choices_[i].take(*event);
      Json body = response_frame(request_, model_, id_, created_, /*chunk=*/true);
      body["choices"] = Json::array({choices_[i].take_chunk()});
      text += "data: " + dumped(body) + "\n\n";
    }
    while (next_ < jobs_.size() && choices_[next_].ended()) ++next_;
    return text;
  }

 private:
  Json usage() const {
    int64_t generated = 0;
    for (const ApiChoice& choice : choices_) generated += choice.generated();
    return usage_json(prompt_tokens_, generated);
  }
  std::string usage_chunk() const {
    Json body = response_frame(request_, model_, id_, created_, /*chunk=*/true);
    body["choices"] = Json::array();
    body["usage"] = usage();
    return "data: " + dumped(body) + "\n\n";
  }

  const ApiRequest request_;
  const ApiModel& model_;
  std::string id_;
  int64_t created_;
  std::vector<std::shared_ptr<Job>> jobs_;
  std::deque<ApiChoice> choices_;
  int64_t prompt_tokens_ = 0;
  size_t next_ = 0;  // all in front have ended
};

// Equal without saying, by its time, how much of it was.
bool same_secret(const std::string& a, const std::string& b) {
  const auto digest = [](const std::string& text) {
    Sha256 sum;
    sum.update(text.data(), text.size());
    return sum.hex();
  };
  const std::string x = digest(a), y = digest(b);
  int difference = 0;
  for (size_t i = 0; i < x.size(); ++i) difference |= x[i] ^ y[i];
  return difference == 0;
}

}  // namespace

class HttpServer::Implementation {
 public:
  Implementation(const HttpOptions& options, const ApiModel& model, Scheduler& scheduler)
      : options_(options), model_(model), scheduler_(scheduler) {
    const auto threads = static_cast<size_t>(options.most_connections);
    server_.new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
    server_.set_payload_max_length(static_cast<size_t>(options.most_body_bytes));
    server_.set_read_timeout(options.patience_seconds, 0);
    server_.set_write_timeout(options.patience_seconds, 0);
    server_.set_keep_alive_timeout(options.patience_seconds);
    add_routes();
  }

  int start() {
    int port = options_.port;
    if (port == 0) {
      port = server_.bind_to_any_port(options_.host);
    } else if (!server_.bind_to_port(options_.host, port)) {
      port = -1;
    }
    if (port < 0) {
      throw ResourceError(concat("cannot listen on ", options_.host, ":", options_.port,
                                 ": another program does, or the address is not this machine's; "
                                 "give another --port or --host"));
    }
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    return port;
  }

  void stop() {
    if (!thread_.joinable()) return;
    // Right after the start the thread may not listen yet, and would not hear of the end.
    while (!server_.is_running()) std::this_thread::sleep_for(milliseconds(1));
    server_.stop();
    thread_.join();
  }

 private:
  void add_routes() {
    server_.set_pre_routing_handler([this](const Request& request, Response& response) {
      return authorized(request, response) ? Server::HandlerResponse::Unhandled
                                           : Server::HandlerResponse::Handled;
    });
    server_.Get("/health", [](const Request&, Response& response) {
      response.set_content("{\"status\": \"ok\"}\n", kJson);
    });
    server_.Get("/metrics", [this](const Request&, Response& response) {
      response.set_content(metrics_.text(scheduler_.counts()), "text/plain; version=0.0.4");
    });
    server_.Get("/v1/models", [this](const Request&, Response& response) {
      const Json one = {{"id", model_.name},
                        {"object", "model"},
                        {"created", started_},
                        {"owned_by", "halftone"},
                        {"max_model_len", model_.length}};
      response.set_content(dumped({{"object", "list"}, {"data", Json::array({one})}}), kJson);
    });
    server_.Post("/v1/completions", [this](const Request& request, Response& response) {
      answer(request, response, "cmpl-", &parse_completion);
    });
    server_.Post("/v1/chat/completions", [this](const Request& request, Response& response) {
      answer(request, response, "chatcmpl-", &parse_chat);
    });
    server_.set_error_handler([](const Request&, Response& response) {
      if (!response.body.empty()) return;
      const char* text = response.status == 404   ? "there is nothing at this address"
                         : response.status == 413 ? "the body is too large"
                                                  : "the request was not understood";
      response.set_content(dumped(error_body(text, response.status)), kJson);
    });
    server_.set_exception_handler(
        [](const Request&, Response& response, const std::exception_ptr& /*error*/) {
          response.status = 500;
          response.set_content(dumped(error_body("the server failed", 500)), kJson);
        });
    server_.set_logger([this](const Request& request, const Response& response) {
      metrics_.count(route_of(request), response.status);
    });
  }

  // Of the known ones: clients make up others.
  static std::string route_of(const Request& request) {
    for (const char* route :
         {"/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics"}) {
      if (request.path == route) return route;
    }
    return "other";
  }

  bool authorized(const Request& request, Response& response) const {
    if (options_.api_key.empty() || request.path == "/health") return true;
    const std::string given = request.get_header_value("Authorization");
    if (same_secret(given, "Bearer " + options_.api_key)) return true;
    response.status = 401;
    response.set_content(dumped(error_body("the API key is missing or wrong", 401)), kJson);
    return false;
  }

  void answer(const Request& request, Response& response, const char* prefix,
              ApiRequest (*parse)(const Json&, const ApiModel&)) {
    try {
      const Json body = parsed(request.body);
      const auto pending =
          std::make_shared<Answer>(parse(body, model_), model_, concat(prefix, ++requests_));
      if (!scheduler_.submit(pending->jobs())) {
        response.set_header("Retry-After", "1");
        throw ApiError(429, "too many requests wait already: try again later");
      }
      if (pending->streams()) {
        stream(pending, response);
      } else {
        response.set_content(dumped(pending->whole()), kJson);
      }
    } catch (const ApiError& error) {
      response.status = error.status;
      response.set_content(dumped(error_body(error.what(), error.status, error.param)), kJson);
    }
  }

  static Json parsed(const std::string& body) {
    try {
      return parse_json(body, "the body");
    } catch (const InputError& error) {
      throw ApiError(400, error.what());
    }
  }

  static void stream(const std::shared_ptr<Answer>& pending, Response& response) {
    response.set_header("Cache-Control", "no-cache");
    response.set_chunked_content_provider(
        kEvents, [pending](size_t /*offset*/, httplib::DataSink& sink) {
          bool ended = false;
          std::string text;
          try {
            text = pending->next_chunk(ended);
          } catch (const ApiError& error) {
            text = "data: " + dumped(error_body(error.what(), error.status)) + "\n\n";
            ended = true;
          }
          // A comment finds out whether the client is still there.
          if (text.empty()) text = ": waiting\n\n";
          if (!sink.write(text.data(), text.size())) return false;
          if (ended) sink.done();
          return true;
        });
  }

  using Server = httplib::Server;
  const HttpOptions options_;
  const ApiModel& model_;
  Scheduler& scheduler_;
  const int64_t started_ = now_seconds();
  Metrics metrics_;
  std::atomic<int64_t> requests_{0};
  Server server_;
  std::thread thread_;
};

HttpServer::HttpServer(const HttpOptions& options, const ApiModel& model, Scheduler& scheduler)
    : implementation_(std::make_unique<Implementation>(options, model, scheduler)) {}

HttpServer::~HttpServer() {
  stop();
}

int HttpServer::start() {
  return implementation_->start();
}

void HttpServer::stop() {
  implementation_->stop();
}

}  // namespace halftone
