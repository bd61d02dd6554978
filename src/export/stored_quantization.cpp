#include "export/stored_quantization.h"

#include "core/error.h"
#include "core/log.h"
#include "export/library_target.h"

namespace halftone {
namespace {

// group_size of an entry of quantized_layers, or of the whole configuration: beside quant_algo or
// in its only config group.
int64_t group_size_of(const Json& entry, const std::string& source) {
  const auto direct = json_member_or<int64_t>(entry, "group_size", 0, source);
  if (direct != 0) return direct;
  const Json* at = &entry;
  for (const char* key : {"config_groups", "group_0", "weights"}) {
    const auto found = at->find(key);
    if (found == at->end() || !found->is_object()) return 0;
    at = &*found;
  }
  return json_member_or<int64_t>(*at, "group_size", 0, source);
}

// The config groups that quantize weights alone, by their targets.
std::map<std::string, bool> weight_only_targets(const Json& config) {
  std::map<std::string, bool> targets;
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object()) return targets;
  for (const auto& [name, group] : groups->items()) {
    if (!group.is_object() || !group.contains("weights") || group.contains("input_activations")) {
      continue;
    }
    const auto list = group.find("targets");
    if (list == group.end() || !list->is_array()) continue;
    for (const Json& target : *list) {
      if (target.is_string()) targets[target.get<std::string>()] = true;
    }
  }
  return targets;
}

// hf_quant_config.json knows group sizes that config.json leaves out.
int64_t group_size_of_checkpoint(const Checkpoint& checkpoint, const Json& config,
                                 const std::string& source) {
  const int64_t found = group_size_of(config, source);
  const fs::path file = checkpoint.directory() / "hf_quant_config.json";
  if (found != 0 || !fs::exists(file)) return found;
  const Json full = parse_json(read_text_file(file, 1 << 26), file.string());
  const auto quantization = full.find("quantization");
  if (quantization == full.end() || !quantization->is_object()) return 0;
  return json_member_or<int64_t>(*quantization, "group_size", 0, file.string());
}

}  // namespace

StoredQuantization read_quantization(const Checkpoint& checkpoint) {
  const std::string source = (checkpoint.directory() / "config.json").string();
  const Json& config = checkpoint.config().at("quantization_config");
  if (!config.is_object()) throw InputError(source + ": 'quantization_config' must be an object");
  const auto method = json_member_or<std::string>(config, "quant_method", "", source);
  const auto excluded = [&](const char* key) {
    const auto list = config.find(key);
    return list == config.end() ? Json::array() : *list;
  };
  if (method == "bitsandbytes") {
    return {{"NF4", 0, true}, {}, {}, excluded("llm_int8_skip_modules")};
  }
  if (const LibraryTarget* library = library_of_method(method)) {
    StoredQuantization stored = library->read(config, source);
    stored.library = library;
    return stored;
  }
  if (method != "modelopt") {
    std::string known = "modelopt, bitsandbytes (NF4)";
    for (const std::string& name : library_methods()) known += ", " + name;
    throw InputError(
        concat(source, ": quant_method '", method, "' cannot be read yet; supported: ", known));
  }
  const auto weight_only = weight_only_targets(config);
  StoredQuantization stored;
  stored.uniform = {json_member_or<std::string>(config, "quant_algo", "", source),
                    group_size_of_checkpoint(checkpoint, config, source),
                    weight_only.count("Linear") > 0};
  if (stored.uniform.algo == "MIXED_PRECISION") stored.uniform = {};
  const auto layers = config.find("quantized_layers");
  if (layers != config.end() && layers->is_object()) {
    for (const auto& [name, entry] : layers->items()) {
      stored.layers[name] = {json_member<std::string>(entry, "quant_algo", source),
                             group_size_of(entry, source), weight_only.count(name) > 0};
    }
  }
  const auto scheme = config.find("kv_cache_scheme");
  if (scheme != config.end()) stored.kv_scheme = *scheme;
  stored.excluded = excluded("ignore");
  return stored;
}

bool is_library_layout(const Checkpoint& checkpoint) {
  const auto config = checkpoint.config().find("quantization_config");
  if (config == checkpoint.config().end() || !config->is_object()) return false;
  const Json method = config->value("quant_method", Json());
  return method.is_string() && library_of_method(method.get<std::string>()) != nullptr;
}

const char* StoredQuantization::scales() const {
  return library == nullptr ? "weight_scale" : library->scales;
}

}  // namespace halftone
