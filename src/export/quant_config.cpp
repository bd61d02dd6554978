#include "export/quant_config.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "export/exclude_modules.h"
#include "export/quantized_modules.h"
#include "formats/quant_algo.h"

namespace halftone {
namespace {

struct Modules {
  std::vector<std::pair<std::string, QuantAlgo>> quantized;  // in module order
  std::vector<std::string> unquantized;
  std::vector<std::string> next_token;
  KvFormat kv = KvFormat::kNone;
};

Modules collect(const Model& model, const TargetPlan& target, const SourceLayout& source) {
  std::vector<TensorSpec> extra;
  for (const StoredTensor& tensor : source.extra()) {
    extra.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  QuantizedModules found = quantized_modules(model, target.stages, extra);
  Modules modules{{}, std::move(found.unquantized), std::move(found.next_token), found.kv};
  for (const auto& [name, stage, linear] : found.quantized) {
    modules.quantized.emplace_back(name, quant_algo_of(target.stages[stage].linears[linear]));
  }
  return modules;
}

Json producer() {
  return {{"name", "modelopt"}, {"version", "0.47.0"}};
}

// The distinct formats in the order of their first module, each with its modules.
std::vector<std::pair<QuantAlgo, std::vector<std::string>>> group_by_algo(const Modules& modules) {
  std::vector<std::pair<QuantAlgo, std::vector<std::string>>> groups;
  for (const auto& [name, algo] : modules.quantized) {
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& entry) { return entry.first == algo; });
    if (group == groups.end()) group = groups.insert(groups.end(), {algo, {}});
    group->second.push_back(name);
  }
  return groups;
}

Json algo_entry(const QuantAlgo& algo) {
  Json entry{{"quant_algo", algo.name}};
  entry.update(algo.extras);
  return entry;
}

Json quantized_layers(const Modules& modules) {
  Json layers = Json::object();
  for (const auto& [name, algo] : modules.quantized) layers[name] = algo_entry(algo);
  return layers;
}

Json with_targets(Json group, std::vector<std::string> targets) {
  std::sort(targets.begin(), targets.end());
  group["targets"] = targets;
  return group;
}

// Engines that read one group_size beside quant_algo take 16 for NVFP4 where there is none. Model
// Optimizer writes none.
bool needs_group_size(const QuantAlgo& algo) {
  constexpr int64_t kAssumed = 16;
  return algo.name.find("NVFP4") != std::string::npos &&
         algo.extras.value("group_size", kAssumed) != kAssumed;
}

// transformers reads these checkpoints through bitsandbytes, whose configuration knows one format
// and no cache.
QuantConfig bitsandbytes_config(const Modules& modules, size_t formats, const Recipe& recipe,
                                DType model_dtype) {
  if (formats > 1 || modules.kv != KvFormat::kNone) {
    throw UsageError(concat("the recipe '", recipe.name, "' has NF4 beside ",
                            formats > 1 ? "another format" : "a quantized KV cache",
                            ": the layout of bitsandbytes holds NF4 alone"));
  }
  Json skipped = Json::array();
  for (const std::string& name : modules.unquantized) skipped.push_back(name);
  const char* compute = model_dtype == DType::kBF16  ? "bfloat16"
                        : model_dtype == DType::kF16 ? "float16"
                                                     : "float32";
  return {nullptr,
          {{"bnb_4bit_compute_dtype", compute},
           {"bnb_4bit_quant_storage", "uint8"},
           {"bnb_4bit_quant_type", "nf4"},
           {"bnb_4bit_use_double_quant", true},
           {"llm_int8_skip_modules", skipped},
           {"load_in_4bit", true},
           {"load_in_8bit", false},
           {"quant_method", "bitsandbytes"}}};
}

}  // namespace

QuantConfig make_quant_config(const Model& model, const TargetPlan& target,
                              const SourceLayout& source) {
  const Modules modules = collect(model, target, source);
  const auto groups = group_by_algo(modules);
  for (const auto& [algo, names] : groups) {
    if (algo.name == "NF4") {
      return bitsandbytes_config(modules, groups.size(), target.recipe, source.dtype());
    }
  }
  const bool mixed = groups.size() > 1;

  Json quantization;
  quantization["quant_algo"] = groups.empty() ? Json(nullptr)
                               : mixed        ? Json("MIXED_PRECISION")
                                              : Json(groups.front().first.name);
  quantization["kv_cache_quant_algo"] =
      modules.kv == KvFormat::kNone ? Json(nullptr) : Json(kv_algo_of(modules.kv));
  Json flat = Json::object();
  Json ignore = Json::array();
  if (mixed || groups.empty()) {
    quantization["quantized_layers"] = quantized_layers(modules);
  } else {
    quantization.update(groups.front().first.extras);
    std::vector<std::string> quantized;
    for (const auto& [name, algo] : modules.quantized) quantized.push_back(name);
    ignore = exclude_modules(quantized, modules.unquantized);
    for (const std::string& layer : modules.next_token) {
      const std::string pattern = layer + "*";
      if (std::find(ignore.begin(), ignore.end(), pattern) == ignore.end()) {
        ignore.push_back(pattern);
      }
    }
    quantization["exclude_modules"] = ignore;
  }

  if (mixed) {
    for (size_t i = 0; i < groups.size(); ++i) {
      flat["config_groups"]["group_" + std::to_string(i)] =
          with_targets(groups[i].first.mixed_group, groups[i].second);
    }
  } else if (!groups.empty() && !groups.front().first.uniform_group.is_null()) {
    flat["config_groups"]["group_0"] = with_targets(groups.front().first.uniform_group, {"Linear"});
  }
  if (mixed || groups.empty()) flat["quantized_layers"] = quantized_layers(modules);
  flat["ignore"] = ignore;
  if (!groups.empty()) flat["quant_algo"] = quantization["quant_algo"];
  if (!mixed && !groups.empty() && needs_group_size(groups.front().first)) {
    flat["group_size"] = groups.front().first.extras.at("group_size");
  }
  if (modules.kv != KvFormat::kNone) {
    flat["kv_cache_scheme"] = kv_scheme_of(modules.kv);
  }
  flat["producer"] = producer();
  flat["quant_method"] = "modelopt";
  return {{{"producer", producer()}, {"quantization", quantization}},
          flat,
          mixed ? quantization : Json(nullptr)};
}

}  // namespace halftone
