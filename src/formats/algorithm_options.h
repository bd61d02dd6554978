#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

namespace halftone {

// One step of a calibration, e.g. {method: awq_lite, alpha_step: 0.1}. `options` holds what the
// recipe gave, under the names of the table below.
struct AlgorithmSpec {
  std::string method;
  Json options = Json::object();
  int line = 0;  // in the recipe; 0: from no file
};

enum class OptionType {
  kFlag,
  kInteger,
  kNumber,
  kTexts,      // a list of texts
  kAlgorithm,  // a method with its own options
  kLayerwise,  // true, false or a mapping (calibration.md, 7)
};

struct AlgorithmOption {
  std::string name;
  std::string other_name;  // also accepted; may be empty
  OptionType type = OptionType::kFlag;
  double low = 0;  // of numbers and integers, both ends included
  double high = 0;
  Json fallback;
  std::string help;
};

struct AlgorithmMethod {
  std::string name;
  std::string help;
  std::vector<AlgorithmOption> options;

  // nullptr: no such option.
  const AlgorithmOption* find(const std::string& option) const;
};

// Every method that a recipe may name, with its options (calibration.md, 5).
const std::vector<AlgorithmMethod>& algorithm_methods();
// nullptr: no such method.
const AlgorithmMethod* find_algorithm_method(const std::string& name);

// What an option is for this step: the recipe's value, else the table's default. Names that the
// method does not have, or of another type, are std::logic_errors: the caller is wrong.
double option(const AlgorithmSpec& spec, const std::string& name);  // a flag is 0 or 1
int64_t integer_option(const AlgorithmSpec& spec, const std::string& name);
bool flag_option(const AlgorithmSpec& spec, const std::string& name);
std::vector<std::string> texts_option(const AlgorithmSpec& spec, const std::string& name);
AlgorithmSpec algorithm_option(const AlgorithmSpec& spec, const std::string& name);

// {"method": ..., options...}, or the bare name where no option was given.
Json to_json(const AlgorithmSpec& spec);

}  // namespace halftone
