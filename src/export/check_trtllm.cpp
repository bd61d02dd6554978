#include "export/check_trtllm.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/log.h"
#include "export/trtllm_config.h"

namespace halftone {
namespace {

std::string shown(const Json& json) {
  const std::string text = json.dump();
  return text.size() <= 200 ? text : text.substr(0, 200) + "...";
}

Json read_or_empty(const fs::path& path) {
  const Json json = read_json_file(path);
  return json.is_object() ? json : Json::object();
}

void compare_tensor(const TensorInfo& planned, const std::map<std::string, TensorInfo>& found,
                    const std::string& file, Findings& findings) {
  const auto info = found.find(planned.name);
  const std::string expected = concat(name_of(planned.dtype), " ", shape_text(planned.shape));
  if (info == found.end()) {
    findings.push_back({"missing-tensor", planned.name, file, expected, "none"});
  } else if (info->second.shape != planned.shape) {
    findings.push_back({"wrong-shape", planned.name, file, shape_text(planned.shape),
                        shape_text(info->second.shape)});
  } else if (info->second.dtype != planned.dtype) {
    findings.push_back(
        {"wrong-dtype", planned.name, file, name_of(planned.dtype), name_of(info->second.dtype)});
  }
}

void check_file(const fs::path& path, const std::string& name,
                const std::map<std::string, TensorInfo>& planned, Findings& findings) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    findings.push_back({"missing-file", {}, name, "a file of every rank", "none"});
    return;
  }
  try {
    const SafetensorsFile file(path);
    for (const auto& [tensor, info] : planned) {
      compare_tensor(info, file.tensors(), name, findings);
    }
    for (const auto& [tensor, info] : file.tensors()) {
      if (planned.count(tensor) > 0) continue;
      findings.push_back({"unexpected-tensor", tensor, name, "none of this name",
                          concat(name_of(info.dtype), " ", shape_text(info.shape))});
    }
  } catch (const InputError& bad) {
    findings.push_back({"truncated-file", {}, name, "a whole safetensors file", bad.what()});
  }
}

// Files of ranks that config.json does not count.
void check_others(const ReshardPlan& plan, const fs::path& folder, Findings& findings) {
  std::set<std::string> planned;
  std::set<fs::path> parts;
  for (const ReshardPlan::OutputFile& file : plan.files) {
    planned.insert(file.name);
    parts.insert(fs::path(file.name).parent_path());
  }
  for (const fs::path& part : parts) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder / part, error)) {
      const std::string name = (part / entry.path().filename()).generic_string();
      const std::string file = entry.path().filename().string();
      if (!file.starts_with("rank") || !file.ends_with(".safetensors")) continue;
      if (planned.count(name) > 0) continue;
      findings.push_back(
          {"unexpected-file", {}, name, concat(planned.size(), " files of ranks"), "one more"});
    }
  }
}

// Order and numbers' spelling do not matter.
bool same(const Json& a, const Json& b) {
  return nlohmann::json::parse(a.dump()) == nlohmann::json::parse(b.dump());
}

void compare_members(const Json& expected, const Json& found, const std::string& file,
                     Findings& findings) {
  constexpr std::array<std::string_view, 2> kInformational{"producer", "rank"};
  for (const auto& [key, value] : expected.items()) {
    if (std::find(kInformational.begin(), kInformational.end(), key) != kInformational.end()) {
      continue;
    }
    const auto other = found.find(key);
    if (other != found.end() && same(value, *other)) continue;
    findings.push_back({"config-disagrees",
                        {},
                        file,
                        concat(key, " ", shown(value)),
                        other == found.end() ? "none" : shown(*other)});
  }
}

}  // namespace

Findings check_rank_headers(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest) {
  Findings findings;
  for (const ReshardPlan::OutputFile& file : plan.files) {
    check_file(folder / file.name, file.name, file.layout.tensors, findings);
  }
  if (!plan.rest.empty()) {
    check_file(rest, rest.lexically_relative(folder).generic_string(),
               plan_safetensors(plan.rest).tensors, findings);
  }
  check_others(plan, folder, findings);
  return findings;
}

Findings check_trtllm_configs(const UnifiedForm& form, const Parallelism& parallel,
                              const fs::path& folder) {
  Findings findings;
  for (const TrtPart& part : trtllm_parts(form.model)) {
    const std::string prefix = part.folder.empty() ? "" : part.folder + "/";
    const std::string config = prefix + "config.json";
    const std::string layers = prefix + "quant_cfg.json";
    compare_members(trtllm_config(form, part, parallel), read_or_empty(folder / config), config,
                    findings);
    const Json expected = trtllm_quant_cfg(form, part, parallel);
    if (expected.is_null()) continue;
    if (fs::exists(folder / layers)) {
      compare_members(expected, read_or_empty(folder / layers), layers, findings);
    } else {
      findings.push_back({"missing-file", {}, layers, "the formats of all layers", "none"});
    }
  }
  return findings;
}

Findings check_trtllm_engine(const UnifiedForm& form, const Parallelism& parallel) {
  constexpr int64_t kRowsOfInt4 = 64;
  constexpr int64_t kRowsOfNvfp4 = 128;
  constexpr int64_t kBlocksOfNvfp4 = 4;
  Findings findings;
  for (size_t s = 0; s < form.stages.size(); ++s) {
    const StageSpec& stage = form.model.stages()[s];
    for (const TrtModule& module : trtllm_modules(stage)) {
      const LinearSite& first = stage.linears[module.linears.front()];
      const LinearFormat& format = form.stages[s].linears[module.linears.front()];
      if (!format.quantized()) continue;
      const bool row = first.shard == ShardAxis::kInput;
      const bool nvfp4 = format.codec->name().starts_with("nvfp4");
      const int64_t rows = row ? first.out : first.out / parallel.tp;
      const int64_t multiple = nvfp4 ? kRowsOfNvfp4 : is_int4(format) ? kRowsOfInt4 : 1;
      if (rows % multiple != 0) {
        findings.push_back({"engine-tp-divides",
                            first.name,
                            {},
                            concat("for TensorRT-LLM a multiple of ", multiple,
                                   " output channels on each of ", parallel.tp, " ranks"),
                            concat(rows)});
      }
      if (!nvfp4) continue;
      const int64_t blocks = (row ? first.in / parallel.tp : first.in) / format.codec->block();
      if (blocks % kBlocksOfNvfp4 != 0) {
        findings.push_back({"engine-tp-divides",
                            first.name,
                            {},
                            concat("for TensorRT-LLM a multiple of ", kBlocksOfNvfp4,
                                   " blocks on each of ", parallel.tp, " ranks"),
                            concat(blocks)});
      }
    }
  }
  return findings;
}

}  // namespace halftone
