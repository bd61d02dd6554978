#include "model/family.h"

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "model/families/families.h"

namespace halftone {
namespace {

std::string config_path(const Checkpoint& checkpoint) {
  return checkpoint.config_source();
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

}  // namespace

const std::vector<Family>& families() {
  // clang-format off: one line each
  static const std::vector<Family> list{
      llama_family(),    llama4_family(),    mistral_family(),     mixtral_family(),
      qwen2_family(),    qwen2_moe_family(), qwen3_family(),       qwen3_moe_family(),
      gemma3_family(),   phi3_family(),      phimoe_family(),      nemotron_nas_family(),
      glm4_moe_family(), gpt_oss_family(),   deepseek_v3_family(), t5_family(),
      mt5_family(),      whisper_family(),
  };
  // clang-format on
  return list;
}

const Family& family_named(const std::string& name) {
  std::vector<std::string> known;
  for (const Family& family : families()) {
    if (family.name == name) return family;
    known.push_back(family.name);
  }
  throw UsageError(concat("--family: unknown family '", name, "'", nearest_hint(name, known),
                          "; halftone models lists them"));
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
                          " (to try it as a known one: --family NAME); supported: ", text));
}

std::unique_ptr<Model> make_model(const Checkpoint& checkpoint, const std::string& family) {
  const Family& chosen = family.empty() ? family_of(checkpoint) : family_named(family);
  return chosen.make({checkpoint.config(), config_path(checkpoint),
                      [&](const std::string& name) { return checkpoint.has(name); }});
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
  // That of the largest tensor: scales and selection biases may be F32 in any model.
  const TensorInfo* largest = nullptr;
  for (const std::string& tensor : checkpoint.names()) {
    const TensorInfo& info = checkpoint.info(tensor);
    const bool floating =
        info.dtype == DType::kBF16 || info.dtype == DType::kF16 || info.dtype == DType::kF32;
    if (floating && (largest == nullptr || info.count() > largest->count())) largest = &info;
  }
  if (largest != nullptr) return largest->dtype;
  throw InputError(source + ": no dtype given and no floating tensor to take it from");
}

}  // namespace halftone
