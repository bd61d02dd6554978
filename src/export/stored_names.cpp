#include "export/stored_names.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "formats/quantizer.h"

namespace halftone {

ExcludeList::ExcludeList(const Json& patterns) {
  if (!patterns.is_array()) return;
  for (const Json& pattern : patterns) {
    if (!pattern.is_string()) continue;
    const std::string text = pattern.get<std::string>();
    patterns_.push_back(text);
    if (text.starts_with("re:")) {
      expressions_.emplace_back("^(?:" + text.substr(3) + ")", "the list of excluded modules");
      continue;
    }
    exact_.insert(text);
    const size_t special = text.find_first_of("*?[");
    if (special == std::string::npos) continue;
    if (special + 1 == text.size() && text.back() == '*') {
      prefixes_.push_back(text.substr(0, special));
    } else {
      globs_.push_back(text);
    }
  }
}

bool ExcludeList::covers(const std::string& module) const {
  return exact_.count(module) > 0 ||
         std::any_of(prefixes_.begin(), prefixes_.end(),
                     [&](const std::string& prefix) { return module.starts_with(prefix); }) ||
         std::any_of(globs_.begin(), globs_.end(),
                     [&](const std::string& glob) { return glob_matches(glob, module); }) ||
         std::any_of(expressions_.begin(), expressions_.end(),
                     [&](const Regex& expression) { return !expression.find_all(module).empty(); });
}

bool is_full_precision(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

bool is_quantization_tensor(const std::string& name) {
  constexpr std::array<std::string_view, 15> kSuffixes{
      "weight_scale",  "weight_scale_2", "input_scale", "pre_quant_scale",  ".k_scale",
      ".v_scale",      ".k_bias",        ".v_bias",     "weight_scale_inv", "global_scale",
      "weight_packed", "weight_shape",   ".qweight",    ".qzeros",          ".g_idx"};
  if (name.find("svdquant_lora_") != std::string::npos) return true;
  return std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

}  // namespace halftone
