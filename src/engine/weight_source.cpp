#include "engine/weight_source.h"

#include <ATen/ATen.h>

#include "dist/reductions.h"
#include "engine/quantize.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

class OriginalSource : public WeightSource {
 public:
  explicit OriginalSource(const Model& model) : model_(model) {}

  std::vector<std::vector<std::string>> names() const override { return tensor_names(model_); }

  StageWeights weights(size_t /*stage*/, const LoadedStage& loaded, at::ScalarType dtype,
                       ThreadPool& /*pool*/) override {
    return weights_of(loaded, dtype);
  }

  std::unique_ptr<LinearRunner> make_runner(size_t /*stage*/) const override {
    return std::make_unique<PlainRunner>();
  }

 private:
  const Model& model_;
};

// Packs and unpacks every weight as the exporter would store it.
class FakeQuantSource : public WeightSource {
 public:
  FakeQuantSource(const Model& model, const TargetPlan& plan, CalibratedScales scales,
                  DType model_dtype, Numerics numerics)
      : model_(model),
        plan_(plan),
        scales_(std::move(scales)),
        model_dtype_(scalar_type_of(model_dtype)),
        numerics_(numerics) {
    for (size_t s = 0; s < plan.stages.size(); ++s) {
      StageFakeQuant fake{plan.stages[s].codecs, {}, plan.stages[s].kv, scales_.kv_amax[s]};
      for (const LinearScales& linear : scales_.linears[s]) {
        fake.input_amax.push_back(linear.input_amax);
      }
      stages_.push_back(std::move(fake));
    }
  }

  std::vector<std::vector<std::string>> names() const override { return tensor_names(model_); }

  StageWeights weights(size_t stage, const LoadedStage& loaded, at::ScalarType dtype,
                       ThreadPool& pool) override {
    StageWeights weights = weights_of(loaded, dtype);
    const StageSpec& spec = model_.stages()[stage];
    for (size_t i = 0; i < spec.linears.size(); ++i) {
      const Codec* codec = plan_.stages[stage].codecs[i];
      if (codec == nullptr) continue;
      const at::Tensor w_NK = loaded.tensor(spec.linears[i].weight).to(model_dtype_);
      const PackedLinear packed = codec->pack(w_NK, scales_.linears[stage][i], numerics_, &pool);
      weights.set(spec.linears[i].weight, codec->unpack(packed, dtype, &pool));
    }
    return weights;
  }

  std::unique_ptr<LinearRunner> make_runner(size_t stage) const override {
    return std::make_unique<FakeQuantRunner>(stages_[stage]);
  }

 private:
  const Model& model_;
  TargetPlan plan_;
  CalibratedScales scales_;
  at::ScalarType model_dtype_;
  Numerics numerics_;
  std::vector<StageFakeQuant> stages_;
};

}  // namespace

std::unique_ptr<WeightSource> make_original_source(const Model& model) {
  return std::make_unique<OriginalSource>(model);
}

CalibratedScales calibrate_scales(const Checkpoint& checkpoint, Model& model,
                                  const TargetPlan& plan, const std::vector<Batch>& batches,
                                  const CalibrationOptions& options, const Cluster& cluster) {
  CalibrationOptions observed = options;
  observed.observe = what_to_observe(model, {&plan});
  const DType dtype = model_dtype(checkpoint);
  CalibratedScales scales;
  run_calibration(checkpoint, model, batches, observed, cluster, [&](const CalibratedStage& seen) {
    scales.linears.push_back(solve_stage(model.stages()[seen.index], plan.stages[seen.index],
                                         plan.recipe, seen, dtype, options.compute_dtype));
    scales.kv_amax.emplace_back();
    for (size_t i = 0; i < seen.statistics.key_amax.size(); ++i) {
      scales.kv_amax.back().emplace_back(seen.statistics.key_amax[i],
                                         seen.statistics.value_amax[i]);
    }
  });
  return scales;
}

std::unique_ptr<WeightSource> make_fake_quant_source(const Model& model, const TargetPlan& plan,
                                                     CalibratedScales scales, DType model_dtype,
                                                     Numerics numerics) {
  return std::make_unique<FakeQuantSource>(model, plan, std::move(scales), model_dtype, numerics);
}

}  // namespace halftone
