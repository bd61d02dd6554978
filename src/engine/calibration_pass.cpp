#include "engine/calibration_pass.h"

#include <ATen/ATen.h>

#include <chrono>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/progress.h"
#include "engine/weight_check.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"

namespace halftone {
namespace {

using Clock = std::chrono::steady_clock;

// One past the last stage whose activations are needed.
size_t stages_to_compute(const std::vector<ObserveOptions>& observe) {
  size_t end = 0;
  for (size_t s = 0; s < observe.size(); ++s) {
    if (observe[s].any()) end = s + 1;
  }
  return end;
}

// Of the stages that are run, and of those that are computed for their sake.
std::vector<LoadStep> steps_of(const SourceLayout& source, const ResumePlan& plan, int64_t limit) {
  std::vector<LoadStep> steps = plan_loads(source.stages(), limit);
  std::erase_if(
      steps, [&](const LoadStep& step) { return plan.action(step.stage) == StageAction::kSkip; });
  return steps;
}

int64_t longest(const std::vector<Batch>& batches) {
  int64_t length = 0;
  for (const Batch& batch : batches) length = std::max(length, batch.length);
  return length;
}

class Calibration {
 public:
  Calibration(const SourceLayout& source, Model& model, const std::vector<Batch>& batches,
              const CalibrationOptions& options, const Cluster& cluster)
      : source_(source),
        model_(model),
        options_(options),
        cluster_(cluster),
        dtype_(scalar_type_of(options.compute_dtype)),
        computed_(stages_to_compute(options.observe)),
        total_batches_(static_cast<int64_t>(batches.size())),
        pass_(model, batches,
              {dtype_, options.count_padding, options.observed_experts, /*drops_logits=*/true},
              cluster),
        plan_(options.resume ? options.resume(computed_, pass_.mine()) : ResumePlan()),
        loader_(source.checkpoint(), steps_of(source, plan_, options.stage_limit), cluster,
                options.held) {
    if (computed_ > 0) model.prepare(longest(batches), dtype_, cluster.device);
  }

  CalibrationTimes run(const ConsumeStage& consume) {
    const size_t stages = model_.stages().size();
    Progress progress("calibrate", static_cast<int64_t>(stages),
                      options_.show_progress && cluster_.world.rank() == 0);
    for (size_t s = 0; s < stages; ++s) {
      const std::string& name = model_.stages()[s].name;
      if (s == plan_.restored_at) pass_.restore(std::move(plan_.states));
      if (plan_.action(s) == StageAction::kSkip) continue;
      cluster_.world.activity().begin_stage("calibrate " + name);
      if (cluster_.trace != nullptr) cluster_.trace->set_stage(s);
      try {
        if (plan_.action(s) == StageAction::kReplay) {
          replay_stage(s);
        } else {
          run_stage(s, consume);
        }
        options_.budget.check_peaks(cluster_.device);
      } catch (Error& error) {
        error.set_phase("calibrate " + name);
        throw;
      }
      // Without this the allocator would keep the buffers of past stages.
      release_free_memory();
      progress.step(static_cast<int64_t>(s) + 1, name + batches_text(), loader_.bytes_read());
    }
    times_.bytes_read = loader_.bytes_read();
    times_.rows_per_call = pass_.rows_per_call();
    return times_;
  }

 private:
  // What a stage showed on its way through.
  struct Seen {
    std::map<std::string, float> amax;
    StageStatistics statistics;
    CapturedInputs inputs;
    std::vector<LoadStep> steps;
  };

  std::string batches_text() const {
    return computed_ == 0 ? "" : concat(", ", pass_.mine().size(), " batches a rank");
  }

  // What statistics are taken on and the next stage's inputs come from.
  StageWeights weights_for(const LoadStep& step, const LoadedStage& loaded,
                           const std::map<std::string, float>& tensor_amax) const {
    if (!options_.observed_weights) return weights_of(loaded, dtype_);
    return options_.observed_weights(step, loaded, tensor_amax);
  }

  // A stage that an interrupted run has finished: what follows needs its outputs.
  void replay_stage(size_t s) {
    while (true) {
      auto start = Clock::now();
      const LoadStep step = loader_.step();
      const StagePart part = step.part;
      const LoadedStage loaded = loader_.next();
      std::map<std::string, float> amax;
      if (options_.observed_weights) amax = amax_of_stage(loaded, source_.checkpoint(), cluster_);
      times_.load_seconds += seconds_since(start);
      start = Clock::now();
      pass_.forward(s, part, weights_for(step, loaded, amax),
                    [](int64_t /*batch*/, const BatchContext& /*rows*/) {
                      return std::unique_ptr<LinearRunner>(std::make_unique<PlainRunner>());
                    });
      times_.forward_seconds += seconds_since(start);
      if (part.last) return;
    }
  }

  void run_stage(size_t s, const ConsumeStage& consume) {
    const bool again = options_.propagate_quantized && s + 1 < computed_;
    const std::vector<States> inputs = again ? pass_.inputs() : std::vector<States>();
    Seen seen{{}, StageStatistics(model_.stages()[s]), {pass_.mine(), total_batches_, {}}, {}};
    const LoadedStage loaded = load_and_observe(s, seen);

    auto start = Clock::now();
    {
      const Span span(cluster_.trace, SpanKind::kReduce);
      seen.statistics.reduce(cluster_.control, total_batches_);
    }
    times_.forward_seconds += seconds_since(start);

    start = Clock::now();
    cluster_.world.activity().begin_step("solve and pack");
    const bool captured = s < computed_ && options_.observe[s].capture;
    const std::optional<ServedStage> served = consume(
        {s, loaded, seen.amax, seen.statistics, captured ? &seen.inputs : nullptr, seen.steps});
    times_.consume_seconds += seconds_since(start);
    if (again) serve(s, inputs, seen.steps, served);
    if (options_.finished) options_.finished(s, pass_, computed_);
  }

  // The next stage's inputs as those of the quantized stage.
  void serve(size_t s, const std::vector<States>& inputs, const std::vector<LoadStep>& steps,
             const std::optional<ServedStage>& served) {
    const auto start = Clock::now();
    const Span span(cluster_.trace, SpanKind::kForward);
    cluster_.world.activity().begin_step("second forward");
    check(served.has_value(), "propagate: quantized needs the quantized stage");
    pass_.restore(inputs);
    for (const LoadStep& step : steps) {
      pass_.forward(
          s, step.part, served->weights(step.tensors),
          [&](int64_t /*batch*/, const BatchContext& /*rows*/) -> std::unique_ptr<LinearRunner> {
            return std::make_unique<FakeQuantRunner>(served->fake_quant);
          });
    }
    times_.forward_seconds += seconds_since(start);
  }

  // The whole stage: in memory when it came in one step.
  LoadedStage load_and_observe(size_t s, Seen& seen) {
    while (true) {
      auto start = Clock::now();
      cluster_.world.activity().begin_step("load");
      seen.steps.push_back(loader_.step());
      const StagePart part = seen.steps.back().part;
      LoadedStage loaded = loader_.next();
      {
        const Span span(cluster_.trace, SpanKind::kScan);
        seen.amax.merge(amax_of_stage(loaded, source_.checkpoint(), cluster_));
      }
      times_.load_seconds += seconds_since(start);
      start = Clock::now();
      cluster_.world.activity().begin_step("forward");
      if (s < computed_) observe(seen.steps.back(), loaded, seen);
      times_.forward_seconds += seconds_since(start);
      if (part.whole()) return loaded;
      if (part.last) break;
    }
    return {source_.stages()[s], source_.checkpoint(), cluster_.device, cluster_.pool};
  }

  void observe(const LoadStep& step, const LoadedStage& loaded, Seen& seen) {
    const Span span(cluster_.trace, SpanKind::kForward);
    const size_t s = step.stage;
    const StageSpec& stage = model_.stages()[s];
    ObserveOptions options = options_.observe[s];
    options.count_padding = options_.count_padding;
    const StageWeights weights = weights_for(step, loaded, seen.amax);
    size_t position = 0;
    pass_.forward(
        s, step.part, weights,
        [&](int64_t batch, const BatchContext& rows) -> std::unique_ptr<LinearRunner> {
          return std::make_unique<Observer>(stage, rows, batch, options);
        },
        [&](int64_t batch, LinearRunner& runner) {
          auto& observer = static_cast<Observer&>(runner);
          seen.statistics.merge(batch, observer.statistics());
          if (options.capture) seen.inputs.add(position, observer.captured());
          ++position;
        });
  }

  const SourceLayout& source_;
  Model& model_;
  const CalibrationOptions& options_;
  Cluster cluster_;
  at::ScalarType dtype_;
  size_t computed_;
  int64_t total_batches_;
  BatchPass pass_;
  ResumePlan plan_;
  StageLoader loader_;
  CalibrationTimes times_;
};

}  // namespace

CalibrationTimes run_calibration(const SourceLayout& source, Model& model,
                                 const std::vector<Batch>& batches,
                                 const CalibrationOptions& options, const Cluster& cluster,
                                 const ConsumeStage& consume) {
  return Calibration(source, model, batches, options, cluster).run(consume);
}

StageWeights weights_of(const LoadedStage& loaded, at::ScalarType dtype) {
  StageWeights weights;
  for (const StoredTensor& stored : loaded.tensors()) {
    const at::Tensor tensor = loaded.tensor(stored.name);
    weights.set(stored.name, stored.keeps_dtype ? tensor : tensor.to(dtype));
  }
  return weights;
}

float round_to(float value, DType dtype) {
  return at::scalar_tensor(value, at::kFloat)
      .to(scalar_type_of(dtype))
      .to(at::kFloat)
      .item<float>();
}

}  // namespace halftone
