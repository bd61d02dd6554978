#include "model/family.h"

#include <algorithm>
#include <climits>

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::string config_path(const Checkpoint& checkpoint) {
  return (checkpoint.directory() / "config.json").string();
}

std::string architecture_of(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  const auto list = config.find("architectures");
  if (list == config.end() || !list->is_array() || list->empty() || !list->front().is_string()) {
    throw InputError(config_path(checkpoint) +
                     ": 'architectures' must be a list with the name of a model class");
  }
  return list->front().get<std::string>();
}

std::string dtype_name(const Json& config, const std::string& source) {
  const std::string name = json_member_or<std::string>(config, "dtype", "", source);
  if (!name.empty()) return name;
  return json_member_or<std::string>(config, "torch_dtype", "", source);
}

// The shape of the tensor on disk of which `need` is one part.
std::vector<int64_t> stacked_shape(const TensorNeed& need) {
  std::vector<int64_t> shape = need.shape;
  if (need.stacked.input_major) std::reverse(shape.begin(), shape.end());
  shape.insert(shape.begin(), need.stacked.count);
  return shape;
}

// The number that follows the prefix in the name; -1: none.
int64_t number_behind(const std::string& name, const std::string& prefix) {
  if (!name.starts_with(prefix)) return -1;
  int64_t number = -1;
  for (size_t i = prefix.size(); i < name.size() && name[i] >= '0' && name[i] <= '9'; ++i) {
    if (i > prefix.size() + 17) return INT64_MAX;
    number = std::max<int64_t>(number, 0) * 10 + (name[i] - '0');
  }
  return number;
}

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> list{
      llama_family(),    llama4_family(),    mistral_family(),     mixtral_family(),
      qwen2_family(),    qwen2_moe_family(), qwen3_family(),       qwen3_moe_family(),
      gemma3_family(),   phi3_family(),      phimoe_family(),      nemotron_nas_family(),
      glm4_moe_family(), gpt_oss_family(),   deepseek_v3_family(),
  };
  return list;
}

const Family& family_of(const Checkpoint& checkpoint) {
  const std::string wanted = architecture_of(checkpoint);
  std::vector<std::string> known;
  for (const Family& family : families()) {
    for (const std::string& architecture : family.architectures) {
      if (architecture == wanted) return family;
      known.push_back(architecture);
    }
  }
  std::string text;
  for (const std::string& one : known) text += (text.empty() ? "" : ", ") + one;
  throw InputError(concat(config_path(checkpoint), ": the architecture '", wanted,
                          "' is not supported", nearest_hint(wanted, known),
                          "; supported: ", text));
}

void check_tensor(const Checkpoint& checkpoint, const TensorNeed& need) {
  const bool stacked = !need.stacked.tensor.empty();
  const std::string& name = stacked ? need.stacked.tensor : need.name;
  const std::vector<int64_t> shape = stacked ? stacked_shape(need) : need.shape;
  const TensorInfo& info = checkpoint.info(name);
  if (info.shape != shape) {
    throw InputError(concat("tensor '", name, "' in '", checkpoint.file_of(name).string(),
                            "' has shape ", shape_text(info.shape), ", but config.json asks for ",
                            shape_text(shape)));
  }
  if (info.dtype != DType::kF32 && info.dtype != DType::kF16 && info.dtype != DType::kBF16) {
    throw InputError(concat("tensor '", name, "' in '", checkpoint.file_of(name).string(), "' is ",
                            name_of(info.dtype), "; expected F32, F16 or BF16"));
  }
}

namespace {

// Layers and experts beyond those that config.json tells of.
void check_numbers(const Checkpoint& checkpoint, const Model& model) {
  for (const auto& [prefix, count] : model.numbered_prefixes()) {
    for (const std::string& name : checkpoint.names()) {
      if (number_behind(name, prefix) < count) continue;
      throw InputError(concat("tensor '", name, "' in '", checkpoint.file_of(name).string(),
                              "': config.json asks for ", count, " of '", prefix,
                              "*', numbered from 0"));
    }
  }
}

}  // namespace

void check_tensors(const Checkpoint& checkpoint, const Model& model) {
  check_numbers(checkpoint, model);
  for (const StageSpec& stage : model.stages()) {
    for (const TensorNeed& need : stage.tensors) check_tensor(checkpoint, need);
  }
}

std::unique_ptr<Model> make_model(const Checkpoint& checkpoint) {
  return family_of(checkpoint)
      .make({checkpoint.config(), config_path(checkpoint),
             [&](const std::string& name) { return checkpoint.has(name); }});
}

std::vector<std::vector<std::string>> tensor_names(const Model& model) {
  std::vector<std::vector<std::string>> names;
  for (const StageSpec& stage : model.stages()) {
    names.emplace_back();
    for (const TensorNeed& need : stage.tensors) names.back().push_back(need.name);
  }
  return names;
}

DType model_dtype(const Checkpoint& checkpoint) {
  const Json& config = checkpoint.config();
  const std::string source = config_path(checkpoint);
  std::string name = dtype_name(config, source);
  // Multimodal models may tell it of their text tower alone.
  const auto text = config.find("text_config");
  if (name.empty() && text != config.end() && text->is_object()) name = dtype_name(*text, source);
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float16") return DType::kF16;
  if (name == "float32") return DType::kF32;
  if (!name.empty() && name != "auto") {
    throw InputError(concat(source, ": dtype '", name,
                            "' is not supported; expected bfloat16, float16 or float32"));
  }
  for (const std::string& tensor : checkpoint.names()) {
    const DType dtype = checkpoint.info(tensor).dtype;
    if (dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32) return dtype;
  }
  throw InputError(source + ": no dtype given and no floating tensor to take it from");
}

}  // namespace halftone
