#pragma once

#include <memory>
#include <string>

#include "evaluate/serving/api.h"
#include "evaluate/serving/scheduler.h"

namespace halftone {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 0;                    // 0: any free one
  std::string api_key;             // empty: nobody is asked for one
  int64_t most_body_bytes = 0;     // of a request
  int64_t most_connections = 256;  // at a time; further ones wait
  int64_t patience_seconds = 10;   // for a client that sends or takes nothing
};

// The HTTP side of `halftone serve`: /v1/completions, /v1/chat/completions, /v1/models, /health,
// /metrics. Threads of its own.
class HttpServer {
 public:
  // All outlive this.
  HttpServer(const HttpOptions& options, const ApiModel& model, Scheduler& scheduler);
  ~HttpServer();

  // Listens; returns the port. ResourceError where that is not to be had.
  int start();
  // No new requests; those in progress are answered first.
  void stop();

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace halftone
