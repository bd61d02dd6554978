#include "export/quantized_modules.h"

#include <algorithm>
#include <set>

#include "export/hf_names.h"
#include "export/linear_headers.h"

namespace halftone {
namespace {

// The module of a weight that the model does not compute with, of a layer that has one; empty for
// norms, biases and other vectors.
std::string carried_module(const Model& model, const TensorSpec& extra) {
  const std::string suffix = ".weight";
  if (!extra.name.ends_with(suffix) || extra.shape.size() < 2) return {};
  const auto prefixes = model.carried_prefixes();
  const bool carried =
      std::any_of(prefixes.begin(), prefixes.end(),
                  [&](const std::string& prefix) { return extra.name.starts_with(prefix); });
  return carried ? extra.name.substr(0, extra.name.size() - suffix.size()) : "";
}

// Stacked experts are one module.
std::string config_module(const LinearSite& linear, const LinearFormat& format) {
  if (!stacks_in_hf(linear, format)) return linear.name;
  return container_of(linear);
}

}  // namespace

QuantizedModules quantized_modules(const Model& model, const std::vector<StagePlan>& stages,
                                   const std::vector<TensorSpec>& extra) {
  QuantizedModules modules;
  std::set<std::string> seen;
  for (size_t s = 0; s < stages.size(); ++s) {
    const StageSpec& stage = model.stages()[s];
    const StagePlan& plan = stages[s];
    for (const std::string& module : stage.plain_modules) {
      if (seen.insert(module).second) modules.unquantized.push_back(module);
    }
    for (size_t i = 0; i < stage.linears.size(); ++i) {
      if (!plan.linears[i].quantized()) {
        modules.unquantized.push_back(stage.linears[i].name);
        continue;
      }
      const std::string module = config_module(stage.linears[i], plan.linears[i]);
      if (seen.insert(module).second) modules.quantized.push_back({module, s, i});
    }
    for (const KvFormat format : plan.kv) {
      if (format != KvFormat::kNone) modules.kv = format;
    }
  }
  for (const TensorSpec& tensor : extra) {
    const std::string module = carried_module(model, tensor);
    if (!module.empty()) modules.unquantized.push_back(module);
  }
  for (const std::string& prefix : model.next_token_prefixes()) {
    const bool held = std::any_of(extra.begin(), extra.end(), [&](const TensorSpec& tensor) {
      return tensor.name.starts_with(prefix);
    });
    if (held) modules.next_token.push_back(prefix.substr(0, prefix.find_last_not_of('.') + 1));
  }
  return modules;
}

}  // namespace halftone
