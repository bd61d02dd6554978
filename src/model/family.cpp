#include "model/family.h"

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

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> list{
      llama_family(),
      t5_family(),
      mt5_family(),
      whisper_family(),
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
  const TensorInfo& info = checkpoint.info(need.name);
  if (info.shape != need.shape) {
    throw InputError(concat("tensor '", need.name, "' in '", checkpoint.file_of(need.name).string(),
                            "' has shape ", shape_text(info.shape), ", but config.json asks for ",
                            shape_text(need.shape)));
  }
  if (info.dtype != DType::kF32 && info.dtype != DType::kF16 && info.dtype != DType::kBF16) {
    throw InputError(concat("tensor '", need.name, "' in '", checkpoint.file_of(need.name).string(),
                            "' is ", name_of(info.dtype), "; expected F32, F16 or BF16"));
  }
}

void check_tensors(const Checkpoint& checkpoint, const Model& model) {
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
  std::string name = json_member_or<std::string>(config, "dtype", "", source);
  if (name.empty()) name = json_member_or<std::string>(config, "torch_dtype", "", source);
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
