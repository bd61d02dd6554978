#include "export/stored_names.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "formats/quantizer.h"

namespace halftone {

ExcludeList::ExcludeList(const Json& patterns) {
  if (!patterns.is_array()) return;
  for (const Json& pattern : patterns) {
    if (pattern.is_string()) patterns_.push_back(pattern.get<std::string>());
  }
}

bool ExcludeList::covers(const std::string& module) const {
  return std::any_of(patterns_.begin(), patterns_.end(), [&](const std::string& pattern) {
    return pattern == module || glob_matches(pattern, module);
  });
}

bool is_full_precision(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

bool is_quantization_tensor(const std::string& name) {
  constexpr std::array<std::string_view, 9> kSuffixes{
      "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale", ".k_scale",
      ".v_scale",     ".k_bias",        ".v_bias",     "weight_scale_inv"};
  if (name.find("svdquant_lora_") != std::string::npos) return true;
  return std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

}  // namespace halftone
