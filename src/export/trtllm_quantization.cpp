#include "export/trtllm_quantization.h"

#include <algorithm>
#include <set>

#include "core/log.h"
#include "export/exclude_modules.h"

namespace halftone {
namespace {

// Engines would look for them among the quantized ones otherwise.
constexpr const char* kNeverQuantized[] = {"*router", "*vocab_embedding", "*position_embedding",
                                           "*block_embedding", "*shared_expert_gate"};

Json entry_of(const LinearFormat& format) {
  Json entry{{"quant_algo", trtllm_algo(format)}};
  const std::string kind = format.codec->name();
  if (is_int4(format)) {
    entry["group_size"] = format.codec->block();
    entry["has_zero_point"] = false;
    entry["pre_quant_scale"] = true;
  } else if (kind.starts_with("nvfp4")) {
    entry["group_size"] = format.codec->block();
  }
  return entry;
}

// The linears as modules with local layer numbers, each once.
struct Modules {
  std::vector<std::pair<std::string, Json>> quantized;
  std::vector<std::string> unquantized;
  bool experts = false;
};

Modules collect(const UnifiedForm& form, const TrtPart& part, const Parallelism& parallel) {
  Modules modules;
  std::set<std::string> seen;
  const std::vector<size_t>& layers = part.layers;
  const size_t per_stage = layers.size() / static_cast<size_t>(parallel.pp);
  const auto add = [&](size_t index, const std::string& prefix) {
    const StageSpec& stage = form.model.stages()[index];
    for (const TrtModule& module : trtllm_modules(stage)) {
      const LinearSite& first = stage.linears[module.linears.front()];
      const LinearFormat& format = form.stages[index].linears[module.linears.front()];
      modules.experts = modules.experts || first.expert >= 0;
      std::string name = prefix + module.name;
      // The block of experts is one module for the consumer.
      if (first.expert >= 0 && !format.quantized()) name = name.substr(0, name.rfind('.'));
      if (!seen.insert(name).second) continue;
      if (format.quantized()) {
        modules.quantized.emplace_back(name, entry_of(format));
      } else {
        modules.unquantized.push_back(name);
      }
    }
  };
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    add(layers[layer], concat("transformer.layers.", layer % per_stage, "."));
  }
  if (part.decoder) add(part.closing, "");
  return modules;
}

Json excluded(const Modules& modules) {
  std::vector<std::string> quantized;
  for (const auto& [name, entry] : modules.quantized) quantized.push_back(name);
  std::vector<std::string> patterns = exclude_modules(quantized, modules.unquantized);
  if (modules.experts) {
    patterns.insert(patterns.begin(), {"*router", "*shared_expert_gate"});
  }
  // An empty list means the consumer's defaults in some of its releases.
  if (patterns.empty()) patterns.assign(std::begin(kNeverQuantized), std::end(kNeverQuantized));
  return patterns;
}

Json cache_algo(const UnifiedForm& form) {
  for (const StagePlan& stage : form.stages) {
    for (const KvFormat format : stage.kv) {
      if (format != KvFormat::kNone) return kv_algo_of(format);
    }
  }
  return nullptr;
}

}  // namespace

TrtQuantization trtllm_quantization(const UnifiedForm& form, const TrtPart& part,
                                    const Parallelism& parallel) {
  const Modules modules = collect(form, part, parallel);
  const Json cache = cache_algo(form);
  TrtQuantization result;
  if (modules.quantized.empty()) {
    result.config = {{"quant_algo", nullptr}, {"kv_cache_quant_algo", cache}};
    return result;
  }
  const Json& first = modules.quantized.front().second;
  const bool mixed = std::any_of(modules.quantized.begin(), modules.quantized.end(),
                                 [&](const auto& module) { return module.second != first; });
  if (mixed) {
    result.config = {{"quant_algo", "MIXED_PRECISION"}, {"kv_cache_quant_algo", cache}};
    result.layers = result.config;
    for (const auto& [name, entry] : modules.quantized) {
      result.layers["quantized_layers"][name] = entry;
    }
    return result;
  }
  result.config = {{"quant_algo", first.at("quant_algo")}, {"kv_cache_quant_algo", cache}};
  result.config.update(first);
  result.config["exclude_modules"] = excluded(modules);
  return result;
}

}  // namespace halftone
