#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "formats/recipe_document.h"

namespace halftone {

std::string YamlPlace::text() const {
  const std::string name = source == nullptr ? "" : source->name;
  return line == 0 ? name : concat(name, ", line ", line);
}

void YamlPlace::fail(const std::string& text) const {
  throw UsageError(concat(this->text(), ": ", text));
}

const YamlValue* YamlValue::find(std::string_view key) const {
  for (const YamlEntry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

template <typename T>
T YamlValue::as(const char* what) const {
  if (is_scalar()) {
    if constexpr (std::is_same_v<T, std::string>) {
      return text;
    } else {
      T value{};
      bool valid = YAML::convert<T>::decode(YAML::Node(text), value);
      if constexpr (std::is_same_v<T, double>) valid = valid && std::isfinite(value);
      if (valid) return value;
    }
  }
  fail(concat("expected ", what));
}
template std::string YamlValue::as(const char*) const;
template bool YamlValue::as(const char*) const;
template int64_t YamlValue::as(const char*) const;
template double YamlValue::as(const char*) const;

void YamlValue::only_keys(const std::vector<std::string>& allowed) const {
  if (!is_map()) fail("expected a mapping");
  for (const YamlEntry& entry : entries) {
    if (std::find(allowed.begin(), allowed.end(), entry.key) == allowed.end()) {
      entry.place.fail(concat("unknown key '", entry.key, "'", nearest_hint(entry.key, allowed)));
    }
  }
}

}  // namespace halftone
