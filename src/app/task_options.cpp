#include "app/evaluation_task.h"
#include "core/error.h"
#include "core/log.h"

namespace halftone {

void add_task_options(Options& options) {
  options.group("Tasks with data of their own");
  options.paths("task-data",
                "NAME=FILE.jsonl, or mmlu=FOLDER, for each task; FILE alone with one task");
  options.integer("limit", 0, 0, INT64_MAX, "the first N questions (of each subject), 0: all");
  options.integer("shots", 5, 0, 100, "mmlu: examples in front of a question");
  options.flag("add-bos", "choice tasks: begin every text with the tokenizer's bos");
  options.text("against", "DIR", "",
               "kl: the original; default: the model as it is without --format");
}

fs::path task_data(const Options& options, const std::string& task) {
  const bool alone = options.get("tasks") == task;
  for (const std::string& given : options.get_paths("task-data")) {
    const size_t equals = given.find('=');
    if (equals != std::string::npos && given.substr(0, equals) == task) {
      return given.substr(equals + 1);
    }
    if (equals == std::string::npos && alone) return given;
  }
  throw UsageError(concat("task '", task, "' needs its data: give --task-data ", task, "=PATH"));
}

LayerPassOptions layer_pass_options(const Evaluated& evaluated) {
  return {evaluated.compute, evaluated.limit, true, evaluated.held.get()};
}

}  // namespace halftone
