#include "model/config_reader.h"

#include <cmath>

namespace halftone {

bool ConfigReader::mentions(const char* key) const {
  return config_->contains(key);
}

bool ConfigReader::has(const char* key) const {
  const auto found = config_->find(key);
  return found != config_->end() && !found->is_null();
}

int64_t ConfigReader::size(const char* key) const {
  const auto value = json_member<int64_t>(*config_, key, source_);
  if (value < 1 || value > kMaxSize) {
    fail("'", key, "' must be 1 to ", kMaxSize, ", found ", value);
  }
  return value;
}

int64_t ConfigReader::size_or(const char* key, int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

int64_t ConfigReader::count_or(const char* key, int64_t fallback) const {
  const auto value = json_member_or<int64_t>(*config_, key, fallback, source_);
  if (value < 0 || value > kMaxSize) {
    fail("'", key, "' must be 0 to ", kMaxSize, ", found ", value);
  }
  return value;
}

int64_t ConfigReader::layers(const char* key) const {
  const int64_t layers = size(key);
  if (layers > kMaxLayers) {
    fail("'", key, "' is ", layers, "; at most ", kMaxLayers, " are supported");
  }
  return layers;
}

int64_t ConfigReader::size_of_any(const std::vector<const char*>& keys) const {
  std::string names;
  for (const char* key : keys) {
    if (has(key)) return size(key);
    names += concat(names.empty() ? "'" : " or '", key, "'");
  }
  fail("the key ", names, " is missing");
}

double ConfigReader::number_or(const char* key, double fallback) const {
  const auto value = json_member_or<double>(*config_, key, fallback, source_);
  if (!std::isfinite(value)) fail("'", key, "' must be finite, found ", value);
  return value;
}

double ConfigReader::positive_or(const char* key, double fallback) const {
  const double value = number_or(key, fallback);
  if (!(value > 0.0)) fail("'", key, "' must be positive, found ", value);
  return value;
}

bool ConfigReader::flag_or(const char* key, bool fallback) const {
  return json_member_or<bool>(*config_, key, fallback, source_);
}

bool ConfigReader::switch_or(const char* key, bool fallback) const {
  const auto found = config_->find(key);
  if (found == config_->end() || !found->is_number_integer()) return flag_or(key, fallback);
  return found->get<int64_t>() != 0;
}

std::string ConfigReader::text_or(const char* key, const std::string& fallback) const {
  return json_member_or<std::string>(*config_, key, fallback, source_);
}

const Json* ConfigReader::list(const char* key) const {
  if (!has(key)) return nullptr;
  const Json& value = config_->at(key);
  if (!value.is_array()) fail("'", key, "' must be a list, found ", value.dump().substr(0, 80));
  return &value;
}

std::vector<int64_t> ConfigReader::integers(const char* key) const {
  std::vector<int64_t> values;
  const Json* items = list(key);
  if (items == nullptr) return values;
  for (const Json& item : *items) {
    if (!item.is_number_integer()) fail("'", key, "' must hold integers, found ", item.dump());
    values.push_back(item.get<int64_t>());
  }
  return values;
}

std::vector<double> ConfigReader::numbers(const char* key) const {
  std::vector<double> values;
  const Json* items = list(key);
  if (items == nullptr) return values;
  for (const Json& item : *items) {
    if (!item.is_number()) fail("'", key, "' must hold numbers, found ", item.dump());
    values.push_back(item.get<double>());
  }
  return values;
}

std::vector<std::string> ConfigReader::texts(const char* key) const {
  std::vector<std::string> values;
  const Json* items = list(key);
  if (items == nullptr) return values;
  for (const Json& item : *items) {
    if (!item.is_string()) fail("'", key, "' must hold strings, found ", item.dump());
    values.push_back(item.get<std::string>());
  }
  return values;
}

ConfigReader ConfigReader::object(const char* key) const {
  if (!has(key)) fail("the key '", key, "' is missing");
  const Json& value = config_->at(key);
  if (!value.is_object()) fail("'", key, "' must be an object");
  return {value, concat(source_, ": ", key)};
}

}  // namespace halftone
