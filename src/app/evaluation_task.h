#pragma once

#include <functional>
#include <string>
#include <vector>

#include "app/evaluated.h"
#include "core/json.h"
#include "evaluate/layer_pass.h"

namespace halftone {

struct TaskResult {
  Json json;         // stands under the task's name in "tasks"
  std::string text;  // for people, a line or more
};

// What `halftone evaluate --tasks NAME` measures.
struct EvaluationTask {
  std::string name;
  // Refuses what cannot be, before anything is read; empty: nothing to check.
  std::function<void(const Options& options)> check;
  // Collective; what rank 0 returns counts. May add to `about_run`, what is said of the whole run.
  std::function<TaskResult(const Options& options, const RunSetup& setup, Evaluated& evaluated,
                           Json& about_run)>
      run;
};

EvaluationTask perplexity_task();
EvaluationTask kl_task();
std::vector<EvaluationTask> choice_evaluation_tasks();
EvaluationTask mmlu_task();
EvaluationTask generate_task();
EvaluationTask logits_task();

// --task-data, --limit, --shots, --add-bos, --against
void add_task_options(Options& options);
// The data that --task-data gives a task: NAME=PATH, or PATH where there is one task only.
fs::path task_data(const Options& options, const std::string& task);
// How the layer-outer tasks run.
LayerPassOptions layer_pass_options(const Evaluated& evaluated);

}  // namespace halftone
