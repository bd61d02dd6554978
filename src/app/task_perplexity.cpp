#include <cstdio>

#include "app/budgets.h"
#include "app/data.h"
#include "app/evaluation_task.h"
#include "core/log.h"
#include "evaluate/tasks/perplexity.h"

namespace halftone {
namespace {

TaskResult run(const Options& options, const RunSetup& setup, Evaluated& evaluated,
               Json& about_run) {
  const LoadedData data =
      load_data(options, data_request(options, "data"), evaluated.checkpoint, *evaluated.model);
  const Cluster& cluster = setup.cluster();
  const bool original = !options.given("format") && !options.given("recipe");
  const MemoryPlan predicted = plan_evaluation(
      *evaluated.source, *evaluated.model, evaluated.compute,
      !(original && evaluated.layout.has_value()), shape_of(data.batches), options, cluster);
  const Perplexity result =
      evaluate_perplexity(evaluated.checkpoint, *evaluated.model, *evaluated.source, data.batches,
                          layer_pass_options(evaluated), cluster);
  about_run["memory"] = evaluation_memory(predicted, cluster);
  char text[128];
  std::snprintf(text, sizeof text, "perplexity %.6f (nll %.8f over %lld tokens)", result.value,
                result.nll, static_cast<long long>(result.tokens));
  return {{{"value", result.value}, {"nll", result.nll}, {"tokens", result.tokens}}, text};
}

}  // namespace

EvaluationTask perplexity_task() {
  return {"perplexity", nullptr, &run};
}

}  // namespace halftone
