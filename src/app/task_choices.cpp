#include <algorithm>
#include <cstdio>

#include "app/data.h"
#include "app/evaluation_task.h"
#include "core/error.h"
#include "evaluate/tasks/choices.h"

namespace halftone {
namespace {

// The rows that a task's answers are scored in.
struct Rows {
  std::vector<Sample> samples;
  std::vector<int64_t> first;  // of the continuation
  int64_t longest = 1;
};

Rows rows_of(const std::vector<ChoiceQuestion>& questions, const Tokenizer& tokenizer, bool add_bos,
             const Model& model) {
  Rows rows;
  for (const ChoiceQuestion& question : questions) {
    for (const Continuation& answer : question.answers) {
      EncodedPair pair = encode_pair(tokenizer, answer, add_bos, model.max_positions());
      rows.longest = std::max(rows.longest, std::ssize(pair.ids));
      rows.first.push_back(pair.first);
      rows.samples.push_back({std::move(pair.ids), {}});
    }
  }
  return rows;
}

std::string text_of(const std::string& name, const Json& result) {
  char text[160];
  std::snprintf(text, sizeof text, "%s %.4f +- %.4f (%lld questions)", name.c_str(),
                result["value"].get<double>(), result["stderr"].get<double>(),
                static_cast<long long>(result["n"].get<int64_t>()));
  std::string line = text;
  for (const char* more : {"acc_norm", "perplexity"}) {
    if (!result.contains(more)) continue;
    std::snprintf(text, sizeof text, ", %s %.4f", more, result[more].get<double>());
    line += text;
  }
  return line;
}

TaskResult run(const ChoiceTask& task, const Options& options, const RunSetup& setup,
               Evaluated& evaluated) {
  if (evaluated.model->has_encoder()) {
    throw UsageError(std::string(task.name) +
                     " is for decoder-only models; this one has an encoder");
  }
  const std::unique_ptr<Tokenizer> tokenizer = require_tokenizer(evaluated.checkpoint);
  const std::vector<ChoiceQuestion> questions =
      read_choice_questions(task, task_data(options, task.name), options.get_integer("limit"));
  const Rows rows = rows_of(questions, *tokenizer, options.get_flag("add-bos"), *evaluated.model);
  const std::vector<Batch> batches =
      make_batches(rows.samples, batch_size(options, rows.longest), tokenizer->pad_id(),
                   PadSide::kRight, /*common_length=*/false);
  const std::vector<RowScore> scores =
      score_rows(evaluated.checkpoint, *evaluated.model, *evaluated.source, batches, rows.first,
                 layer_pass_options(evaluated), setup.cluster(), task.name);
  const Json result = choice_result(task, questions, scores);
  return {result, text_of(task.name, result)};
}

}  // namespace

std::vector<EvaluationTask> choice_evaluation_tasks() {
  std::vector<EvaluationTask> tasks;
  for (const ChoiceTask& task : choice_tasks()) {
    tasks.push_back(
        {task.name, [&task](const Options& options) { task_data(options, task.name); },
         [&task](const Options& options, const RunSetup& setup, Evaluated& evaluated,
                 Json& /*about_run*/) { return run(task, options, setup, evaluated); }});
  }
  return tasks;
}

}  // namespace halftone
