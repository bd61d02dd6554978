#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "formats/tensor_bridge.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "model/families/families.h"
#include "model/model.h"
#include "model/source_layout.h"

namespace halftone::test {

inline fs::path data_folder() {
  return HALFTONE_TEST_DATA;
}

inline at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.tensors().at(name);
  at::Tensor tensor = at::empty(info.shape, scalar_type_of(info.dtype));
  file.read(info, 0, info.bytes, tensor.mutable_data_ptr());
  return tensor;
}

inline at::Tensor tensor_of(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo& info = checkpoint.info(name);
  at::Tensor tensor = at::empty(info.shape, scalar_type_of(info.dtype));
  checkpoint.read(name, 0, info.bytes, tensor.mutable_data_ptr());
  return tensor;
}

using Tensors = std::map<std::string, at::Tensor>;

inline void write_tensors(const fs::path& path, const Tensors& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    const bool bytes = tensor.scalar_type() == at::kByte;
    specs.push_back(
        {name, bytes ? DType::kU8 : dtype_of(tensor.scalar_type()), tensor.sizes().vec()});
  }
  const SafetensorsLayout layout = plan_safetensors(specs);
  File file = File::create(path);
  file.write_at(0, layout.header.data(), static_cast<int64_t>(layout.header.size()));
  for (const auto& [name, info] : layout.tensors) {
    file.write_at(info.offset, tensors.at(name).contiguous().const_data_ptr(), info.bytes);
  }
  file.close();
}

// Numbers in (-1, 1), the same on every machine.
inline at::Tensor numbers(const std::vector<int64_t>& shape, uint64_t seed) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  uint64_t state = seed * 2654435761u + 12345;
  float* value = tensor.mutable_data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value[i] = static_cast<float>(static_cast<double>(state >> 40) / (1 << 23) - 1.0);
  }
  return tensor;
}

// A Llama small enough to compute by hand.
inline Json tiny_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 32},
          {"intermediate_size", 48},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 40},
          {"max_position_embeddings", 128},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", false},
          {"torch_dtype", "bfloat16"}};
}

inline std::unique_ptr<Model> tiny_model(const Json& config) {
  return llama_family().make({config, "config.json", {}});
}

// Every tensor that the model needs, under its name on disk: matrices with entries of about 0.3,
// norms around 1.
inline Tensors tiny_tensors(const Model& model, at::ScalarType dtype = at::kBFloat16) {
  Tensors tensors;
  uint64_t seed = 1;
  for (const StageSpec& stage : model.stages()) {
    for (const TensorNeed& need : stage.tensors) {
      const at::Tensor values = numbers(need.shape, seed++);
      const bool norm = need.name.find("norm") != std::string::npos;
      const at::Tensor tensor = (norm ? 1.0 + 0.2 * values : 0.3 * values).to(dtype);
      if (need.stacked.tensor.empty()) {
        tensors[need.name] = tensor;
        continue;
      }
      const at::Tensor slice = need.stacked.input_major ? tensor.t() : tensor;
      at::Tensor& stack = tensors[need.stacked.tensor];
      if (!stack.defined()) {
        std::vector<int64_t> shape = slice.sizes().vec();
        shape.insert(shape.begin(), need.stacked.count);
        stack = at::zeros(shape, dtype);
      }
      stack[need.stacked.index].copy_(slice);
    }
  }
  return tensors;
}

inline void write_checkpoint(const fs::path& folder, const Json& config, const Tensors& tensors) {
  write_text_file(folder / "config.json", config.dump(2));
  write_tensors(folder / "model.safetensors", tensors);
}

// As the loader hands it out; what low bits stand for is not rounded.
inline at::Tensor tensor_of(const Checkpoint& checkpoint, const TensorNeed& need) {
  const StoredTensor stored = locate(checkpoint, need, DType::kF32);
  std::vector<at::Tensor> pieces;
  for (const TensorPiece& piece : stored.pieces) {
    const StageImage image = plan_stage_image(checkpoint, {piece});
    at::Tensor bytes = at::empty({image.bytes}, at::kByte);
    read_stage_range(checkpoint, image, 0, image.bytes, bytes.mutable_data_ptr());
    const StageImage::Entry& entry = image.entries.front();
    pieces.push_back(
        bytes.slice(0, 0, entry.bytes).view(scalar_type_of(entry.dtype)).view(entry.shape));
  }
  return decode_stored(stored, pieces, nullptr);
}

// The names of every stage's tensors.
inline std::vector<std::vector<std::string>> tensor_names(const Model& model) {
  std::vector<std::vector<std::string>> names;
  for (const StageSpec& stage : model.stages()) {
    names.emplace_back();
    for (const TensorNeed& need : stage.tensors) names.back().push_back(need.name);
  }
  return names;
}

// What a part of a stage reads and nothing else.
inline StageWeights weights_of_stage(const Checkpoint& checkpoint, const StageSpec& stage,
                                     at::ScalarType dtype, const StagePart& part = {},
                                     at::Device device = at::kCPU) {
  StageWeights weights;
  for (const TensorNeed& need : stage.tensors) {
    const bool here = need.expert < 0
                          ? part.first
                          : need.expert >= part.expert_begin && need.expert < part.expert_end;
    if (!here) continue;
    const at::Tensor tensor = tensor_of(checkpoint, need).to(device);
    weights.set(need.name, need.keeps_dtype ? tensor : tensor.to(dtype));
  }
  return weights;
}

// The parts of a stage whose experts are taken `group` at a time; 0: all at once.
inline std::vector<StagePart> parts_of(const StageSpec& stage, int64_t group) {
  if (group == 0 || stage.experts == 0) return {{}};
  std::vector<StagePart> parts;
  for (int64_t begin = 0; begin < stage.experts; begin += group) {
    parts.push_back({begin == 0, begin + group >= stage.experts, begin, begin + group});
  }
  return parts;
}

// Outputs of all stages for one batch.
inline std::vector<at::Tensor> run_stages(const Checkpoint& checkpoint, Model& model,
                                          const at::Tensor& ids_BT, const BatchContext& batch,
                                          at::ScalarType dtype, LinearRunner& runner,
                                          int64_t expert_group = 0, at::Device device = at::kCPU) {
  model.prepare(batch.length, dtype, device);
  std::vector<at::Tensor> outputs;
  States states{ids_BT.to(device), {}};
  for (size_t s = 0; s < model.stages().size(); ++s) {
    const StageSpec& stage = model.stages()[s];
    for (const StagePart& part : parts_of(stage, expert_group)) {
      states = model.forward(s, part, weights_of_stage(checkpoint, stage, dtype, part, device),
                             std::move(states), batch, runner);
    }
    outputs.push_back(states.x);
  }
  return outputs;
}

inline std::vector<at::Tensor> run_stages(const Checkpoint& checkpoint, Model& model,
                                          const at::Tensor& ids_BT, const BatchContext& batch,
                                          at::ScalarType dtype) {
  PlainRunner runner;
  return run_stages(checkpoint, model, ids_BT, batch, dtype, runner);
}

// max|a - b| / max|b|
inline double relative_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.to(at::kDouble);
  return (a.to(at::kDouble) - wide).abs().max().item<double>() / wide.abs().max().item<double>();
}

}  // namespace halftone::test
