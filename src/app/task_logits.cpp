#include "app/evaluation_task.h"
#include "evaluate/tasks/logits.h"

namespace halftone {
namespace {

void check(const Options& options) {
  options.required("input");
  options.required("output");
}

TaskResult run(const Options& options, const RunSetup& setup, Evaluated& evaluated,
               Json& /*about_run*/) {
  const LogitsOptions logits{evaluated.compute, options.get_flag("hidden"), evaluated.limit,
                             evaluated.held.get()};
  const std::string& output = options.required("output");
  evaluate_logits(evaluated.checkpoint, *evaluated.model, *evaluated.source,
                  options.required("input"), output, logits, setup.cluster());
  return {{{"output", output}}, output};
}

}  // namespace

EvaluationTask logits_task() {
  return {"logits", &check, &run};
}

}  // namespace halftone
