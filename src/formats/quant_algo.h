#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/json.h"
#include "formats/linear_format.h"

namespace halftone {

// The entry of a format in hf_quant_config.json and config.json (formats-and-hf-export.md, 4).
struct QuantAlgo {
  std::string name;              // "NVFP4"
  Json extras = Json::object();  // beside the name: group_size, ...
  // The config group of a checkpoint that has this format everywhere (null: none), and the one
  // among several.
  Json uniform_group;
  Json mixed_group = Json::object();

  bool operator==(const QuantAlgo& other) const {
    return name == other.name && extras == other.extras;
  }
};
QuantAlgo quant_algo_of(const LinearFormat& format);

// The format that a checkpoint's configuration names; `has` says whether the linear has a stored
// tensor of this suffix; weight_only: its config group has no inputs. Null when the name is
// unknown.
std::optional<LinearFormat> format_of_algo(const std::string& name, int64_t group_size,
                                           bool weight_only,
                                           const std::function<bool(const std::string&)>& has);

}  // namespace halftone
