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

int64_t longest(const std::vector<Batch>& batches) {
  int64_t length = 0;
  for (const Batch& batch : batches) length = std::max(length, batch.length);
  return length;
}

class Calibration {
 public:
  Calibration(const Checkpoint& checkpoint, Model& model, const std::vector<Batch>& batches,
              const CalibrationOptions& options, const Cluster& cluster)
      : checkpoint_(checkpoint),
        model_(model),
        batches_(batches),
        options_(options),
        cluster_(cluster),
        dtype_(scalar_type_of(options.compute_dtype)),
        computed_(stages_to_compute(options.observe)),
        loader_(checkpoint, tensor_names(model), cluster),
        pass_(model, batches, cluster) {
    if (computed_ > 0) model.prepare(longest(batches), dtype_, cluster.device);
  }

  CalibrationTimes run(const ConsumeStage& consume) {
    const size_t stages = model_.stages().size();
    Progress progress("calibrate", static_cast<int64_t>(stages),
                      options_.show_progress && cluster_.world.rank() == 0);
    for (size_t s = 0; s < stages; ++s) {
      const std::string& name = model_.stages()[s].name;
      try {
        run_stage(s, consume);
      } catch (Error& error) {
        error.set_phase("calibrate " + name);
        throw;
      }
      // Without this the allocator would keep the buffers of past stages.
      release_free_memory();
      progress.step(static_cast<int64_t>(s) + 1, name + batches_text(), loader_.bytes_read());
    }
    times_.bytes_read = loader_.bytes_read();
    return times_;
  }

 private:
  std::string batches_text() const {
    return computed_ == 0 ? "" : concat(", ", pass_.mine().size(), " batches a rank");
  }

  void run_stage(size_t s, const ConsumeStage& consume) {
    auto start = Clock::now();
    const LoadedStage loaded = loader_.next();
    const auto amax = amax_of_stage(loaded, checkpoint_, cluster_);
    times_.load_seconds += seconds_since(start);

    start = Clock::now();
    StageStatistics statistics(model_.stages()[s]);
    CapturedInputs inputs{pass_.mine(), static_cast<int64_t>(batches_.size()), {}};
    const bool again = options_.propagate_quantized && s + 1 < computed_;
    if (s < computed_) observe(s, loaded, again, statistics, inputs);
    statistics.reduce(cluster_.control, inputs.total_batches);
    times_.forward_seconds += seconds_since(start);

    start = Clock::now();
    const bool captured = s < computed_ && options_.observe[s].capture;
    const std::optional<ServedStage> served =
        consume({s, loaded, amax, statistics, captured ? &inputs : nullptr});
    times_.consume_seconds += seconds_since(start);
    if (!again) return;

    start = Clock::now();
    check(served.has_value(), "propagate: quantized needs the quantized stage");
    pass_.forward(s, served->weights, [&](int64_t /*batch*/) -> std::unique_ptr<LinearRunner> {
      return std::make_unique<FakeQuantRunner>(served->fake_quant);
    });
    times_.forward_seconds += seconds_since(start);
  }

  // `again`: the stage will be computed once more, so its inputs stay.
  void observe(size_t s, const LoadedStage& loaded, bool again, StageStatistics& statistics,
               CapturedInputs& inputs) {
    const StageSpec& stage = model_.stages()[s];
    ObserveOptions options = options_.observe[s];
    options.count_padding = options_.count_padding;
    const StageWeights weights = weights_of(loaded, dtype_);
    const BatchPass::MakeRunner make = [&](int64_t batch) -> std::unique_ptr<LinearRunner> {
      return std::make_unique<Observer>(stage, pass_.context(batch), batch, options);
    };
    const BatchPass::OnDone take = [&](int64_t batch, LinearRunner& runner) {
      const auto& observer = static_cast<Observer&>(runner);
      statistics.merge(batch, observer.statistics());
      if (options.capture) inputs.inputs.push_back(observer.captured());
    };
    if (again) {
      pass_.rehearse(s, weights, make, take);
    } else {
      pass_.forward(s, weights, make, take);
    }
  }

  const Checkpoint& checkpoint_;
  Model& model_;
  const std::vector<Batch>& batches_;
  const CalibrationOptions& options_;
  Cluster cluster_;
  at::ScalarType dtype_;
  size_t computed_;
  StageLoader loader_;
  BatchPass pass_;
  CalibrationTimes times_;
};

}  // namespace

CalibrationTimes run_calibration(const Checkpoint& checkpoint, Model& model,
                                 const std::vector<Batch>& batches,
                                 const CalibrationOptions& options, const Cluster& cluster,
                                 const ConsumeStage& consume) {
  return Calibration(checkpoint, model, batches, options, cluster).run(consume);
}

StageWeights weights_of(const LoadedStage& loaded, at::ScalarType dtype) {
  StageWeights weights;
  for (const StageImage::Entry& entry : loaded.image().entries) {
    weights.set(entry.name, loaded.tensor(entry.name).to(dtype));
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
