#include <algorithm>

#include "core/log.h"
#include "export/check_headers.h"

namespace halftone {
namespace {

constexpr const char* kHfFile = "hf_quant_config.json";
constexpr const char* kLayersFile = "quant_cfg.json";

Json member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? Json() : *found;
}

// "FP8", "NVFP4", ... or null, as hf_quant_config.json spells a kv_cache_scheme.
Json cache_algo(const Json& scheme) {
  if (!scheme.is_object()) return scheme;
  const bool fp8 = member(scheme, "num_bits") == 8 && member(scheme, "type") == "float";
  return fp8 ? Json("FP8") : scheme;
}

// Of the only config group, or beside the algorithm.
Json group_size(const Json& config) {
  if (config.contains("group_size")) return config.at("group_size");
  const Json group =
      member(member(config, "config_groups").is_object() ? member(config, "config_groups")
                                                         : Json::object(),
             "group_0");
  const Json weights = group.is_object() ? member(group, "weights") : Json();
  return weights.is_object() ? member(weights, "group_size") : Json();
}

// A list is a set here.
Json sorted(Json list) {
  if (list.is_null()) list = Json::array();
  if (list.is_array()) std::sort(list.begin(), list.end());
  return list;
}

Json object_or_empty(const Json& value) {
  return value.is_object() ? value : Json::object();
}

bool same_members(const Json& a, const Json& b) {
  // Without the order of their keys.
  return nlohmann::json::parse(a.dump()) == nlohmann::json::parse(b.dump());
}

}  // namespace

Findings check_configs(const Checkpoint& checkpoint) {
  Findings findings;
  const Json config = object_or_empty(member(checkpoint.config(), "quantization_config"));
  if (member(config, "quant_method") != "modelopt") return findings;  // one file
  const fs::path path = checkpoint.directory() / kHfFile;
  if (!fs::exists(path)) {
    findings.push_back(
        {"missing-config-file", {}, kHfFile, "the file beside config.json", "no such file"});
    return findings;
  }
  const Json file = read_json_file(path);
  const Json full = object_or_empty(file.is_object() ? member(file, "quantization") : Json());
  const char* name = kHfFile;
  const auto compare = [&](const char* key, const Json& in_config, const Json& in_file) {
    if (same_members(in_config, in_file)) return;
    const auto shown = [](const Json& json) {
      const std::string text = json.dump();
      return text.size() <= 200 ? text : text.substr(0, 200) + "...";
    };
    findings.push_back({"config-files-disagree",
                        {},
                        name,
                        concat(key, " ", shown(in_config), ", as in config.json"),
                        shown(in_file)});
  };
  compare("quant_algo", member(config, "quant_algo"), member(full, "quant_algo"));
  compare("kv_cache_quant_algo", cache_algo(member(config, "kv_cache_scheme")),
          member(full, "kv_cache_quant_algo"));
  compare("exclude_modules", sorted(member(config, "ignore")),
          sorted(member(full, "exclude_modules")));
  compare("quantized_layers", object_or_empty(member(config, "quantized_layers")),
          object_or_empty(member(full, "quantized_layers")));
  // Each leaves it out for some formats.
  const Json in_config = group_size(config);
  const Json in_file = member(full, "group_size");
  if (!in_config.is_null() && !in_file.is_null()) compare("group_size", in_config, in_file);
  // Where it is, it is what one engine reads.
  name = kLayersFile;
  if (!fs::exists(checkpoint.directory() / name)) return findings;
  const Json layers = object_or_empty(read_json_file(checkpoint.directory() / name));
  for (const char* key : {"kv_cache_quant_algo", "quantized_layers"}) {
    compare(key, member(full, key), member(layers, key));
  }
  return findings;
}

}  // namespace halftone
