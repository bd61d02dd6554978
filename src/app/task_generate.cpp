#include "app/data.h"
#include "app/evaluation_task.h"
#include "app/generation.h"
#include "core/error.h"
#include "core/log.h"
#include "text/dataset.h"

namespace halftone {
namespace {

void check(const Options& options) {
  options.required("input");
  options.required("output");
}

Dataset read_prompts(const Options& options, const Tokenizer* tokenizer, int64_t vocabulary) {
  DatasetOptions how;
  how.text_field = options.given("text-field") ? options.get("text-field") : "prompt";
  how.samples = 0;
  how.max_length = 0;
  how.vocabulary = vocabulary;
  const fs::path input = options.get("input");
  Dataset prompts = load_dataset({input}, tokenizer, how);
  if (prompts.dropped > 0) {
    throw InputError(concat("'", input.string(), "' has ", prompts.dropped,
                            " prompts without a token: there is nothing to continue"));
  }
  return prompts;
}

std::string line_of(const GenerationRequest& request, const Generated& result,
                    const std::string& text) {
  const Json line = {{"prompt_tokens", request.prompt.size()},
                     {"ids", result.tokens},
                     {"text", text},
                     {"finish_reason", name_of(result.reason)}};
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

TaskResult run(const Options& options, const RunSetup& setup, Evaluated& evaluated,
               Json& /*about_run*/) {
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(evaluated.checkpoint);
  const StopStrings stops(tokenizer.get(), options.get_paths("stop"));
  std::vector<GenerationRequest> requests;
  int64_t longest = 0;
  const Dataset prompts = read_prompts(options, tokenizer.get(), evaluated.model->vocabulary());
  for (const Sample& sample : prompts.samples) {
    requests.push_back({{sample.ids.begin(), sample.ids.end()},
                        options.get_integer("max-tokens"),
                        sampling_of(options)});
    longest = std::max(longest, std::ssize(sample.ids));
  }
  const int64_t positions = evaluated.model->max_positions();
  const int64_t needed = std::min(longest + options.get_integer("max-tokens"), positions);
  if (longest >= positions) {
    throw InputError(concat("a prompt has ", longest, " tokens, the model ", positions,
                            " positions: nothing can follow it"));
  }
  const std::unique_ptr<PlacedModel> model = place_model(options, evaluated, needed, setup);
  GenerationOptions how;
  how.rows = options.get_integer("generation-batch");
  how.stop_ids = stop_ids_of(evaluated.checkpoint, evaluated.model->vocabulary());
  how.complete = [&](size_t /*request*/, const std::vector<int64_t>& tokens) {
    return stops.found_in(tokens);
  };
  const std::vector<Generated> results = generate(*model, requests, how);
  std::string lines;
  int64_t tokens = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    lines += line_of(requests[i], results[i], stops.text_of(results[i].tokens));
    tokens += std::ssize(results[i].tokens);
  }
  const fs::path output = options.get("output");
  if (setup.speaks()) write_text_file(output, lines);
  return {{{"output", output.string()}, {"n", results.size()}, {"tokens", tokens}},
          concat(output.string(), ": ", results.size(), " continuations, ", tokens, " tokens")};
}

}  // namespace

EvaluationTask generate_task() {
  return {"generate", &check, &run};
}

}  // namespace halftone
