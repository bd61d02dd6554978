#include <algorithm>
#include <cstdio>

#include "app/data.h"
#include "app/evaluation_task.h"
#include "app/generation.h"
#include "core/error.h"
#include "evaluate/tasks/mmlu.h"

namespace halftone {
namespace {

constexpr int64_t kAnswerTokens = 2;
constexpr int64_t kPromptTokens = 4096;

std::string table_of(const Json& result) {
  char line[160];
  std::string text;
  for (const char* level : {"subjects", "subcategories", "categories"}) {
    for (const auto& [name, share] : result[level].items()) {
      if (share.is_null()) continue;
      std::snprintf(line, sizeof line, "  %-40s %.4f\n", name.c_str(), share.get<double>());
      text += line;
    }
  }
  std::snprintf(line, sizeof line, "mmlu %.4f +- %.4f (%lld questions, %lld skipped)",
                result["value"].get<double>(), result["stderr"].get<double>(),
                static_cast<long long>(result["n"].get<int64_t>()),
                static_cast<long long>(result["skipped"].get<int64_t>()));
  return text + line;
}

TaskResult run(const Options& options, const RunSetup& setup, Evaluated& evaluated,
               Json& /*about_run*/) {
  const std::unique_ptr<Tokenizer> tokenizer = require_tokenizer(evaluated.checkpoint);
  const int64_t length = std::min(kPromptTokens, evaluated.model->max_positions() - kAnswerTokens);
  const MmluSet set =
      read_mmlu(task_data(options, "mmlu"), *tokenizer,
                {options.get_integer("shots"), length, options.get_integer("limit")});
  std::vector<GenerationRequest> requests;
  std::vector<char> answers;
  size_t longest = 0;
  for (const MmluQuestion& question : set.questions) {
    if (question.prompt.empty()) continue;
    requests.push_back({{question.prompt.begin(), question.prompt.end()}, kAnswerTokens});
    answers.push_back(question.answer);
    longest = std::max(longest, question.prompt.size());
  }
  if (requests.empty()) throw InputError("no question of mmlu fits the model's positions");
  const auto needed = static_cast<int64_t>(longest) + kAnswerTokens;
  const std::unique_ptr<PlacedModel> model = place_model(options, evaluated, needed, setup);
  GenerationOptions how;
  how.rows = options.get_integer("generation-batch");
  how.stop_ids = stop_ids_of(evaluated.checkpoint, evaluated.model->vocabulary());
  const std::vector<Generated> results = generate(*model, requests, how);
  const StopStrings text(tokenizer.get(), {});
  std::vector<bool> right;
  for (size_t i = 0; i < results.size(); ++i) {
    right.push_back(gives_answer(text.text_of(results[i].tokens), answers[i]));
  }
  const Json result = mmlu_result(set, right);
  return {result, table_of(result)};
}

}  // namespace

EvaluationTask mmlu_task() {
  return {"mmlu", [](const Options& options) { task_data(options, "mmlu"); }, &run};
}

}  // namespace halftone
