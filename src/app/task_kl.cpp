#include <cstdio>

#include "app/data.h"
#include "app/evaluation_task.h"
#include "core/error.h"
#include "evaluate/tasks/divergence.h"
#include "model/family.h"

namespace halftone {
namespace {

void check(const Options& options) {
  if (options.given("against") || options.given("format") || options.given("recipe")) return;
  throw UsageError("kl compares two models: give --against DIR, or --format");
}

// The model in another folder.
struct Other {
  Checkpoint checkpoint;
  std::unique_ptr<Model> model;
  std::optional<SourceLayout> layout;
  std::unique_ptr<WeightSource> source;

  Other(const std::string& folder, const std::string& family)
      : checkpoint(folder), model(make_model(checkpoint, family)) {
    if (is_export(checkpoint)) {
      source = make_exported_source(checkpoint, *model);
    } else {
      layout.emplace(checkpoint, *model);
      source = make_original_source(*layout);
    }
  }
};

TaskResult run(const Options& options, const RunSetup& setup, Evaluated& evaluated,
               Json& /*about_run*/) {
  const LoadedData data =
      load_data(options, data_request(options, "data"), evaluated.checkpoint, *evaluated.model);
  const std::string& folder =
      options.given("against") ? options.get("against") : options.required("model");
  const Other reference(folder, options.get("family"));
  require_same_model(reference.checkpoint, setup.cluster());
  const Divergence result =
      evaluate_divergence({reference.checkpoint, *reference.model, *reference.source},
                          {evaluated.checkpoint, *evaluated.model, *evaluated.source}, data.batches,
                          layer_pass_options(evaluated), setup.cluster());
  char text[160];
  std::snprintf(text, sizeof text,
                "kl %.6f (greatest %.6f, same first choice %.2f %%, %lld tokens)", result.mean,
                result.max, 100.0 * result.agreement, static_cast<long long>(result.tokens));
  return {{{"value", result.mean},
           {"max", result.max},
           {"top1_agreement", result.agreement},
           {"tokens", result.tokens}},
          text};
}

}  // namespace

EvaluationTask kl_task() {
  return {"kl", &check, &run};
}

}  // namespace halftone
