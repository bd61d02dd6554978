#include "evaluate/tasks/logits.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "evaluate/model_input.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

// Hands everything on and keeps what the router said.
class RoutingRecorder : public LinearRunner {
 public:
  explicit RoutingRecorder(std::unique_ptr<LinearRunner> inner) : inner_(std::move(inner)) {}

  at::Tensor linear(size_t site, const at::Tensor& x_BTK, const at::Tensor& w_NK,
                    const at::Tensor& bias_N) override {
    return inner_->linear(site, x_BTK, w_NK, bias_N);
  }
  std::pair<at::Tensor, at::Tensor> key_value(size_t site, at::Tensor k_BHTD,
                                              at::Tensor v_BHTD) override {
    return inner_->key_value(site, std::move(k_BHTD), std::move(v_BHTD));
  }
  void routed(const at::Tensor& ids_TK, const at::Tensor& weights_TK) override {
    const auto [ids, order] = ids_TK.sort(-1);
    ids_ = ids.to(at::kCPU, at::kInt);
    weights_ = weights_TK.gather(-1, order).to(at::kCPU, at::kFloat);
  }

  const at::Tensor& ids() const { return ids_; }
  const at::Tensor& weights() const { return weights_; }

 private:
  std::unique_ptr<LinearRunner> inner_;
  at::Tensor ids_;
  at::Tensor weights_;
};

// "layer 3" to "layer_3", "encoder layer 0" to "encoder_layer_0".
std::string label_of(const StageSpec& stage) {
  std::string label = stage.name;
  std::replace(label.begin(), label.end(), ' ', '_');
  return label;
}

// The states of the first row behind a stage, where there is something to show.
void add_hidden(const StageSpec& stage, const States& states, Tensors& out) {
  const auto row = [](const at::Tensor& x) { return x[0].to(at::kCPU, at::kFloat); };
  if (stage.kind == StageKind::kHead) return;
  const bool encoder = stage.name.starts_with("encoder");
  if (stage.kind == StageKind::kLayer) {
    out["hidden." + label_of(stage)] = row(encoder ? states.encoder : states.x);
  } else if (encoder) {
    out["hidden.encoder_embed"] = row(states.encoder);
  } else if (states.encoder.defined()) {
    // The decoder's embedding also closes the encoder.
    out["hidden.encoder_final_norm"] = row(states.encoder);
  }
}

at::Tensor real_rows(const at::Tensor& x_BTV, const BatchContext& context) {
  std::vector<at::Tensor> rows;
  for (size_t row = 0; row < context.tokens.size(); ++row) {
    const TokenRange& range = context.tokens[row];
    rows.push_back(x_BTV[static_cast<int64_t>(row)].slice(0, range.begin, range.end));
  }
  return at::cat(rows);
}

void write_tensors(const fs::path& path, const Tensors& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    const DType dtype = tensor.scalar_type() == at::kInt ? DType::kI32 : DType::kF32;
    specs.push_back({name, dtype, tensor.sizes().vec()});
  }
  const SafetensorsLayout layout = plan_safetensors(specs);
  const fs::path partial = path.string() + ".partial";
  File file = File::create(partial);
  file.write_at(0, layout.header.data(), static_cast<int64_t>(layout.header.size()));
  for (const auto& [name, info] : layout.tensors) {
    file.write_at(info.offset, tensors.at(name).contiguous().const_data_ptr(), info.bytes);
  }
  file.sync();
  file.close();
  fs::rename(partial, path);
}

}  // namespace

void evaluate_logits(const Checkpoint& checkpoint, Model& model, WeightSource& source,
                     const fs::path& input, const fs::path& output, const LogitsOptions& options,
                     const Cluster& cluster) {
  const at::ScalarType dtype = scalar_type_of(options.compute_dtype);
  const std::vector<Batch> batches{read_model_input(input, model)};
  model.prepare(batches.front().length, dtype, cluster.device);
  BatchPass pass(model, batches, {dtype}, cluster);
  const bool mine = !pass.mine().empty();
  StageLoader loader(checkpoint, plan_loads(source.tensors(), options.stage_limit), cluster,
                     options.held);
  Tensors out;
  for (size_t s = 0; s < model.stages().size();) {
    const StageSpec& stage = model.stages()[s];
    cluster.world.activity().begin_stage("evaluate " + stage.name);
    const LoadStep step = loader.step();
    const LoadedStage loaded = loader.next();
    const StageWeights weights = source.weights(s, loaded, dtype, cluster.pool);
    pass.forward(
        s, step.part, weights,
        [&](int64_t /*batch*/) { return std::make_unique<RoutingRecorder>(source.make_runner(s)); },
        [&](int64_t /*batch*/, LinearRunner& runner) {
          const auto& recorder = static_cast<RoutingRecorder&>(runner);
          if (!options.hidden || !recorder.ids().defined()) return;
          out["router." + label_of(stage) + ".expert_ids"] = recorder.ids();
          out["router." + label_of(stage) + ".expert_weights"] = recorder.weights();
        });
    release_free_memory();
    if (!step.part.last) continue;
    if (mine && options.hidden) add_hidden(stage, pass.states(0), out);
    ++s;
  }
  if (mine) {
    const at::Tensor logits_BTV = pass.states(0).x.to(at::kCPU, at::kFloat);
    out["logits"] = model.has_encoder() ? logits_BTV : real_rows(logits_BTV, pass.context(0));
    write_tensors(output, out);
  }
  cluster.control.barrier();
}

}  // namespace halftone
