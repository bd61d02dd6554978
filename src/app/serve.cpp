#include <cstdio>

#include "app/commands.h"
#include "app/data.h"
#include "app/evaluated.h"
#include "app/generation.h"
#include "core/error.h"
#include "core/log.h"
#include "core/stop_signal.h"
#ifdef HALFTONE_HTTP
#include "evaluate/serving/http_server.h"
#endif

namespace halftone {
namespace {

Options options() {
  Options options("halftone serve --model DIR [--port N] [options]",
                  "Serves a model over HTTP as OpenAI's API does: /v1/completions, "
                  "/v1/chat/completions,\n/v1/models; /health and /metrics (Prometheus) beside "
                  "them. Ends on SIGTERM or SIGINT.");
  options.group("What");
  options.text("model", "DIR", "", "the checkpoint, original or exported");
  add_source_option(options);
  add_family_option(options);
  options.text("served-name", "NAME", "", "the model's name in answers; default: its folder's");
  options.integer("context", 0, 0, INT64_MAX,
                  "tokens of the longest sequence, its continuation included; 0: the model's");
  options.integer("generation-batch", 16, 1, 65536, "sequences that are continued at a time");
  options.group("HTTP");
  options.text("host", "ADDRESS", "127.0.0.1",
               "where to listen; an address that others reach needs --api-key-file");
  options.integer("port", 8000, 0, 65535, "0: any free one");
  options.text("api-key-file", "FILE", "", "clients must send this file's first line as their key");
  options.integer("max-queue", 256, 1, 1'000'000, "sequences that may wait for their turn");
  options.integer("max-connections", 128, 1, 10'000, "connections that are served at a time");
  options.integer("max-body-bytes", 4'000'000, 1, INT64_MAX, "of a request");
  options.integer("client-seconds", 10, 1, 3600, "patience with a client that sends nothing");
  add_fake_quantization_options(options);
  add_run_options(options);
  return options;
}

#ifdef HALFTONE_HTTP

bool reaches_this_machine_alone(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string read_api_key(const Options& options) {
  const std::string& path = options.get("api-key-file");
  const std::string& host = options.get("host");
  if (path.empty()) {
    if (reaches_this_machine_alone(host)) return {};
    throw UsageError(concat("--host ", host, " lets others in: give --api-key-file"));
  }
  const std::string text = read_text_file(path, 65536);
  std::string key = text.substr(0, text.find_first_of("\r\n"));
  if (key.empty()) throw InputError(concat("'", path, "': the first line, the key, is empty"));
  return key;
}

std::string name_of_model(const Options& options) {
  if (options.given("served-name")) return options.get("served-name");
  return fs::absolute(options.required("model")).lexically_normal().filename().string();
}

std::optional<ChatTemplate> chat_template_of(const Checkpoint& checkpoint) {
  const std::optional<fs::path>& folder = checkpoint.files();
  if (!folder || !has_chat_template(*folder)) return std::nullopt;
  return ChatTemplate::load(*folder);
}

// On rank 0, until a signal comes.
void serve(const Options& options, const HttpOptions& http, const ApiModel& model,
           Scheduler& scheduler) {
  HttpServer server(http, model, scheduler);
  const int port = server.start();
  const std::string address = concat("http://", http.host, ":", port);
  if (options.get_flag("json")) {
    print_json({{"address", address}, {"model", model.name}});
    std::fflush(stdout);
  }
  log_info("serving ", model.name, " at ", address, " (sequences of up to ", model.length,
           " tokens)");
  scheduler.run(&stop_requested);
  server.stop();
  log_info("stopped");
}

void run(const Options& options, const World* world) {
  HttpOptions http;
  http.host = options.get("host");
  http.port = static_cast<int>(options.get_integer("port"));
  http.api_key = read_api_key(options);
  http.most_body_bytes = options.get_integer("max-body-bytes");
  http.most_connections = options.get_integer("max-connections");
  http.patience_seconds = options.get_integer("client-seconds");
  const std::optional<Recipe> recipe = fake_quantization_recipe(options);
  const RunSetup setup(options, *world);
  install_stop_signals();
  Evaluated evaluated(options, recipe, setup);
  const std::unique_ptr<Tokenizer> tokenizer = require_tokenizer(evaluated.checkpoint);
  const int64_t positions = evaluated.model->max_positions();
  const int64_t context = options.get_integer("context");
  if (context > positions) {
    throw UsageError(concat("--context ", context, ": the model has ", positions, " positions"));
  }
  const std::unique_ptr<PlacedModel> placed =
      place_model(options, evaluated, context > 0 ? context : positions, setup);
  SharedBatch batch(*placed, setup.cluster().control);
  if (!setup.speaks()) {
    batch.follow();
    return;
  }
  const int64_t vocabulary = placed->vocabulary();
  const std::optional<ChatTemplate> chat = chat_template_of(evaluated.checkpoint);
  const ApiModel model{name_of_model(options),
                       *tokenizer,
                       vocabulary,
                       placed->length(),
                       options.get_integer("max-queue"),
                       chat ? &*chat : nullptr};
  Scheduler scheduler(batch, *tokenizer, stop_ids_of(evaluated.checkpoint, vocabulary),
                      placed->length(),
                      {options.get_integer("generation-batch"), options.get_integer("max-queue")});
  serve(options, http, model, scheduler);
}

#else

void run(const Options& /*options*/, const World* /*world*/) {
  throw UsageError(
      "this program was built without cpp-httplib: install libcpp-httplib-dev and build it again");
}

#endif

}  // namespace

Command serve_command() {
  return {"serve", "an OpenAI-compatible HTTP endpoint over a model", true, &options, &run};
}

}  // namespace halftone
