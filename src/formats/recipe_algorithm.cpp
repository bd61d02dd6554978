#include "formats/recipe_algorithm.h"

#include <cmath>

#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {
namespace {

constexpr size_t kMaxAlgorithms = 16;
// Candidates of one search.
constexpr double kMaxCandidates = 10'000;

AlgorithmSpec read_algorithm(const YamlValue& value);

Json read_layerwise(const YamlValue& value) {
  if (value.is_scalar()) return {{"enable", value.as<bool>("true, false or a mapping")}};
  value.only_keys({"enable", "get_qdq_activations_from_prev_layer", "checkpoint_dir", "save_every",
                   "calib_mutates_weights"});
  Json json = Json::object();
  for (const YamlEntry& entry : value.entries) {
    if (entry.key == "checkpoint_dir") {
      if (!entry.value.is_null()) json[entry.key] = entry.value.as<std::string>("a folder");
    } else if (entry.key == "save_every") {
      const auto every = entry.value.as<int64_t>("a number of layers");
      if (every < 1) entry.value.fail(concat("save_every must be at least 1, found ", every));
      json[entry.key] = every;
    } else {
      json[entry.key] = entry.value.as<bool>("true or false");
    }
  }
  return json;
}

template <typename T>
Json read_in_range(const AlgorithmOption& option, const YamlValue& value, const char* what) {
  const T number = value.as<T>(what);
  if (static_cast<double>(number) < option.low || static_cast<double>(number) > option.high) {
    value.fail(
        concat(option.name, " must be ", option.low, " to ", option.high, ", found ", value.text));
  }
  return number;
}

Json read_nested(const AlgorithmOption& option, const YamlValue& value) {
  const AlgorithmSpec nested = read_algorithm(value);
  if (nested.method != "max" && nested.method != "mse" && nested.method != "local_hessian") {
    value.fail(concat(option.name, " must be max, mse or local_hessian, found ", nested.method));
  }
  Json json{{"method", nested.method}};
  json.update(nested.options);
  return json;
}

Json read_texts(const YamlValue& value) {
  Json list = Json::array();
  if (value.is_null()) return list;
  if (!value.is_list()) value.fail("expected a list of patterns");
  for (const YamlValue& item : value.items) list.push_back(item.as<std::string>("a pattern"));
  return list;
}

Json read_option(const AlgorithmOption& option, const YamlValue& value) {
  switch (option.type) {
    case OptionType::kFlag:
      return value.as<bool>("true or false");
    case OptionType::kInteger:
      return read_in_range<int64_t>(option, value, "a whole number");
    case OptionType::kNumber:
      return read_in_range<double>(option, value, "a number");
    case OptionType::kTexts:
      return read_texts(value);
    case OptionType::kAlgorithm:
      return read_nested(option, value);
    case OptionType::kLayerwise:
      break;
  }
  return read_layerwise(value);
}

const AlgorithmMethod& method_of(const YamlValue& name) {
  const auto text = name.as<std::string>("the name of an algorithm");
  if (const AlgorithmMethod* method = find_algorithm_method(text)) return *method;
  std::vector<std::string> known;
  std::string list;
  for (const AlgorithmMethod& method : algorithm_methods()) {
    known.push_back(method.name);
    list += (list.empty() ? "" : ", ") + method.name;
  }
  name.fail(
      concat("unknown algorithm '", text, "'", nearest_hint(text, known), "; supported: ", list));
}

// Rules between several options of one method.
void check_together(const AlgorithmSpec& spec, const YamlValue& value) {
  if (find_algorithm_method(spec.method)->find("step_size") != nullptr) {
    const double range = option(spec, "stop_multiplier") - option(spec, "start_multiplier");
    if (range < 0) value.fail("start_multiplier must not be above stop_multiplier");
    if (range / option(spec, "step_size") > kMaxCandidates) {
      value.fail(concat("more than ", kMaxCandidates, " steps from start to stop"));
    }
  }
  if (spec.method == "nvfp4_act_headroom" &&
      option(spec, "anchor_percentile") > option(spec, "upper_percentile")) {
    value.fail("anchor_percentile must not be above upper_percentile");
  }
  const Json layerwise = spec.options.value("layerwise", Json::object());
  if (spec.method == "svdquant" && layerwise.value("enable", false)) {
    value.fail("svdquant has no layerwise mode");
  }
  const bool keeps_weights =
      spec.method == "max" || spec.method == "mse" || spec.method == "local_hessian";
  if (!layerwise.value("calib_mutates_weights", true) && !keeps_weights) {
    value.fail(concat("calib_mutates_weights: false is wrong for ", spec.method,
                      ", which changes weights"));
  }
}

AlgorithmSpec read_algorithm(const YamlValue& value) {
  AlgorithmSpec spec;
  spec.line = value.place.line;
  if (!value.is_map()) {
    spec.method = method_of(value).name;
    return spec;
  }
  const YamlValue* name = value.find("method");
  if (name == nullptr) value.fail("an algorithm needs a method");
  const AlgorithmMethod& method = method_of(*name);
  spec.method = method.name;
  std::vector<std::string> known{"method"};
  for (const AlgorithmOption& option : method.options) known.push_back(option.name);
  for (const YamlEntry& entry : value.entries) {
    if (entry.key == "method") continue;
    const AlgorithmOption* option = method.find(entry.key);
    if (option == nullptr) {
      entry.place.fail(
          concat("unknown key '", entry.key, "' of ", method.name, nearest_hint(entry.key, known)));
    }
    if (spec.options.contains(option->name)) {
      entry.place.fail(concat("'", option->name, "' is given twice"));
    }
    spec.options[option->name] = read_option(*option, entry.value);
  }
  check_together(spec, value);
  return spec;
}

}  // namespace

std::vector<AlgorithmSpec> read_algorithms(const YamlValue& value) {
  if (value.is_null() || (value.is_scalar() && value.text == "none")) return {};
  if (!value.is_list()) return {read_algorithm(value)};
  if (value.items.empty()) value.fail("an empty list; write null to calibrate nothing");
  if (value.items.size() > kMaxAlgorithms) {
    value.fail(concat("more than ", kMaxAlgorithms, " algorithms"));
  }
  std::vector<AlgorithmSpec> algorithms;
  for (const YamlValue& item : value.items) algorithms.push_back(read_algorithm(item));
  return algorithms;
}

Recipe::Propagate default_propagate(const std::vector<AlgorithmSpec>& algorithms) {
  for (const AlgorithmSpec& spec : algorithms) {
    const bool gptq = spec.method == "gptq";
    const Json layerwise = spec.options.value("layerwise", Json::object());
    if (!layerwise.value("enable", gptq)) continue;
    if (layerwise.value("get_qdq_activations_from_prev_layer", gptq)) {
      return Recipe::Propagate::kQuantized;
    }
  }
  return Recipe::Propagate::kOriginal;
}

}  // namespace halftone
