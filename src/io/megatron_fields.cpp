#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "io/megatron_config.h"
#include "io/pickle_fields.h"
#include "io/shown_name.h"
#include "io/torch_archive.h"
#include "io/torch_globals.h"

namespace halftone {
namespace {

constexpr int64_t kMaxPickle = 256 << 20;
constexpr int64_t kMaxYaml = 16 << 20;

// Only what a configuration of a model consists of; null for anything else.
Json plain_value(const PickleValue& value) {
  using Kind = PickleValue::Kind;
  switch (value.kind) {
    case Kind::kBool:
      return value.integer != 0;
    case Kind::kInteger:
      return value.integer;
    case Kind::kFloat:
      return std::isfinite(value.number) ? Json(value.number) : Json();
    case Kind::kText:
      return std::string(value.text);
    case Kind::kGlobal:
      return value.global_name();
    case Kind::kTuple:
    case Kind::kList: {
      // One number for each layer, as moe_layer_freq gives them.
      Json list = Json::array();
      for (const PickleValue* item : value.items) {
        list.push_back(item->is(Kind::kInteger) ? Json(item->integer) : Json());
      }
      return list;
    }
    default:
      return {};
  }
}

// Megatron-LM's options under the names of TransformerConfig.
void rename_arguments(Json& values) {
  const auto copy = [&](const char* from, const char* to) {
    if (values.contains(from) && !values.contains(to)) values[to] = values[from];
  };
  copy("norm_epsilon", "layernorm_epsilon");
  copy("num_experts", "num_moe_experts");
  copy("apply_layernorm_1p", "layernorm_zero_centered_gamma");
  copy("swiglu", "gated_linear_unit");
  if (values.value("swiglu", Json()) == true) values["activation_func"] = "silu";
  if (const auto untied = values.find("untie_embeddings_and_output_weights");
      untied != values.end() && untied->is_boolean()) {
    values["share_embeddings_and_output_weights"] = !untied->get<bool>();
  }
  // Without grouped queries the number of groups means nothing.
  if (values.value("group_query_attention", Json()) == false) values.erase("num_query_groups");
}

Json scalar_of(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  // Quoted texts are tagged "!".
  if (node.Tag() == "!") return text;
  if (text == "null" || text == "~" || text.empty()) return {};
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  int64_t integer = 0;
  double number = 0.0;
  const char* end = text.data() + text.size();
  if (const auto [at, error] = std::from_chars(text.data(), end, integer);
      error == std::errc() && at == end) {
    return integer;
  }
  if (const auto [at, error] = std::from_chars(text.data(), end, number);
      error == std::errc() && at == end && std::isfinite(number)) {
    return number;
  }
  return text;
}

// An object of a class or a function, which `_target_` names, is its name.
Json yaml_value(const YAML::Node& node) {
  if (node.IsScalar()) return scalar_of(node);
  if (node.IsMap()) {
    const YAML::Node target = node["_target_"];
    return target.IsDefined() && target.IsScalar() ? Json(target.Scalar()) : Json();
  }
  if (!node.IsSequence()) return {};
  Json list = Json::array();
  for (const YAML::Node& item : node) {
    list.push_back(item.IsScalar() ? scalar_of(item) : Json());
  }
  return list;
}

}  // namespace

MegatronFields read_common_arguments(const fs::path& path) {
  MegatronFields fields;
  fields.source = concat("'", path.string(), "'");
  const File file = File::open_for_reading(path);
  TorchArchive archive(file, 0, file.size(), fields.source);
  const PickleDocument pickle(archive.content("data.pkl", kMaxPickle), common_rules(),
                              fields.source);
  const PickleValue* arguments = pickle.root().find("args");
  const bool sound = arguments != nullptr && arguments->global_name() == "argparse.Namespace" &&
                     arguments->state != nullptr && arguments->state->is(PickleValue::Kind::kDict);
  if (!sound) {
    throw InputError(concat(fields.source, ": expected the run's arguments under 'args', found ",
                            arguments == nullptr ? "none" : arguments->described(),
                            ": give the model's configuration with --source-config"));
  }
  const std::vector<PickleValue*>& items = arguments->state->items;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    fields.values[text_of(*items[i], fields.source)] = plain_value(*items[i + 1]);
  }
  rename_arguments(fields.values);
  for (const char* key : {"tokenizer_model", "tokenizer_name_or_path"}) {
    const auto found = fields.values.find(key);
    if (found != fields.values.end() && found->is_string()) fields.tokenizer = *found;
  }
  return fields;
}

MegatronFields read_model_yaml(const fs::path& path, const char* section) {
  MegatronFields fields;
  fields.source = concat("'", path.string(), "'");
  try {
    const YAML::Node root = YAML::Load(read_text_file(path, kMaxYaml));
    const YAML::Node map = root.IsMap() ? root[section] : YAML::Node();
    if (!map.IsMap()) {
      throw InputError(concat(fields.source, ": expected the model's configuration under '",
                              section, "': give it with --source-config"));
    }
    for (const auto& entry : map) {
      if (entry.first.IsScalar()) fields.values[entry.first.Scalar()] = yaml_value(entry.second);
    }
  } catch (const YAML::Exception& error) {
    throw InputError(
        concat(fields.source, ", line ", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
  return fields;
}

}  // namespace halftone
