#include "export/sidecars.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

constexpr std::array<std::string_view, 12> kWeightSuffixes{
    ".safetensors", ".bin",     ".pt",   ".pth", ".ckpt", ".gguf",
    ".h5",          ".msgpack", ".onnx", ".npz", ".nemo", ".index.json"};
constexpr std::array<std::string_view, 9> kWrittenOrStale{"config.json",
                                                          "generation_config.json",
                                                          "hf_quant_config.json",
                                                          "quant_config.json",
                                                          "quantize_config.json",
                                                          "quantization_config.json",
                                                          "quant_cfg.json",
                                                          "recipe.yaml",
                                                          "recipe.yml"};

bool is_copied(const std::string& name) {
  if (std::find(kWrittenOrStale.begin(), kWrittenOrStale.end(), name) != kWrittenOrStale.end()) {
    return false;
  }
  if (name == "summary.json") return false;
  return std::none_of(kWeightSuffixes.begin(), kWeightSuffixes.end(),
                      [&](std::string_view suffix) { return name.ends_with(suffix); });
}

// A sampling parameter without do_sample is refused by the validator of generation configurations.
void write_generation_config(const fs::path& from, const fs::path& to) {
  Json config;
  try {
    config = read_json_file(from);
    if (!config.is_object()) throw InputError(from.string() + ": expected a JSON object");
  } catch (const InputError& error) {
    // The weights are finished by now, and nothing of them depends on this file.
    log_warn(error.what(), "; it is copied as it is");
    copy_file_synced(from, to);
    return;
  }
  const bool samples = config.contains("do_sample") && config["do_sample"] == true;
  const auto set = [&](const char* key) { return config.contains(key) && !config[key].is_null(); };
  if (samples || !(set("temperature") || set("top_p") || set("top_k"))) {
    copy_file_synced(from, to);
    return;
  }
  config["do_sample"] = true;
  write_text_file(to, config.dump(2) + "\n");
}

}  // namespace

void write_index(const HfLayout& layout, const fs::path& directory) {
  if (layout.files.size() == 1) return;
  Json index;
  index["metadata"] = {{"total_parameters", layout.total_elements},
                       {"total_size", layout.total_bytes}};
  Json map = Json::object();
  for (const auto& [name, file] : layout.file_of) map[name] = layout.files[file].name;
  index["weight_map"] = map;
  write_text_file(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

void write_configs(const Checkpoint& source, const QuantConfig& config, const fs::path& directory) {
  Json model = source.config();
  model.erase("quantization_config");
  model["quantization_config"] = config.quantization_config;
  write_text_file(directory / "config.json", model.dump(4) + "\n");
  if (!config.hf_quant_config.is_null()) {
    write_text_file(directory / "hf_quant_config.json", config.hf_quant_config.dump(4) + "\n");
  }
  if (!config.quant_cfg.is_null()) {
    write_text_file(directory / "quant_cfg.json", config.quant_cfg.dump(4) + "\n");
  }
}

void copy_other_files(const Checkpoint& source, const fs::path& directory) {
  if (!source.files()) return;
  const fs::path& from = *source.files();
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.is_regular_file()) names.insert(entry.path().filename().string());
  }
  for (const std::string& name : names) {
    if (name == "generation_config.json") {
      write_generation_config(from / name, directory / name);
    } else if (is_copied(name)) {
      copy_file_synced(from / name, directory / name);
    }
  }
}

}  // namespace halftone
