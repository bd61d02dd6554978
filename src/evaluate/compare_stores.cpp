#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/log.h"
#include "evaluate/compare.h"
#include "io/safetensors.h"

namespace halftone {
namespace {

// "linear dataset" -> where to find it.
using Datasets = std::map<std::string, std::pair<std::string, std::string>>;

Datasets datasets_of(const StatisticsStore& store) {
  Datasets datasets;
  for (const std::string& linear : store.linears()) {
    for (const std::string& dataset : store.datasets(linear)) {
      datasets[linear + " " + dataset] = {linear, dataset};
    }
  }
  return datasets;
}

std::string described(const StatisticsStore::Values& values) {
  if (values.shape.empty() && values.values.size() == 1) return concat(values.values.front());
  return "F32 " + shape_text(values.shape);
}

std::optional<double> db_of(const std::vector<float>& a, const std::vector<float>& b) {
  double signal = 0.0;
  double noise = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    signal += double{a[i]} * a[i];
    noise += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  }
  if (!(signal > 0.0) || !(noise > 0.0) || !std::isfinite(signal) || !std::isfinite(noise)) {
    return std::nullopt;
  }
  return std::round(1000.0 * 10.0 * std::log10(signal / noise)) / 1000.0;
}

void compare_values(const std::string& name, const StatisticsStore::Values& a,
                    const StatisticsStore::Values& b, Comparison& result) {
  ++result.compared;
  Difference difference{"value", name, {}, described(a), described(b), {}};
  if (a.shape != b.shape) {
    difference.kind = "shape";
    result.differences.push_back(difference);
    return;
  }
  int64_t different = 0;
  for (size_t i = 0; i < a.values.size(); ++i) different += a.values[i] != b.values[i] ? 1 : 0;
  if (different == 0) {
    ++result.equal;
    return;
  }
  if (!a.shape.empty()) {
    difference.b = concat(described(b), ", ", different, " of ", a.values.size(), " values differ");
  }
  difference.db = db_of(a.values, b.values);
  result.differences.push_back(difference);
}

void compare_texts(const StatisticsStore& a, const StatisticsStore& b, Comparison& result) {
  const std::map<std::string, std::string> left = a.texts();
  const std::map<std::string, std::string> right = b.texts();
  std::set<std::string> keys;
  for (const auto& [key, text] : left) keys.insert(key);
  for (const auto& [key, text] : right) keys.insert(key);
  const auto shown = [](const std::map<std::string, std::string>& texts, const std::string& key) {
    const auto found = texts.find(key);
    return found == texts.end() ? std::string("absent") : found->second.substr(0, 200);
  };
  for (const std::string& key : keys) {
    const bool same = left.contains(key) && right.contains(key) && left.at(key) == right.at(key);
    if (!same)
      result.differences.push_back({"meta", key, {}, shown(left, key), shown(right, key), {}});
  }
  if (a.stages_done() != b.stages_done() || a.stages() != b.stages()) {
    result.differences.push_back({"meta",
                                  "stages",
                                  {},
                                  concat(a.stages_done(), " of ", a.stages()),
                                  concat(b.stages_done(), " of ", b.stages()),
                                  {}});
  }
}

}  // namespace

Comparison compare_stores(const StatisticsStore& a, const StatisticsStore& b) {
  Comparison result;
  compare_texts(a, b, result);
  const Datasets left = datasets_of(a);
  const Datasets right = datasets_of(b);
  for (const auto& [name, place] : left) {
    const StatisticsStore::Values values = a.values(place.first, place.second);
    if (right.contains(name)) {
      compare_values(name, values, b.values(place.first, place.second), result);
    } else {
      result.differences.push_back({"only-in-a", name, {}, described(values), "none", {}});
    }
  }
  for (const auto& [name, place] : right) {
    if (left.contains(name)) continue;
    const std::string text = described(b.values(place.first, place.second));
    result.differences.push_back({"only-in-b", name, {}, "none", text, {}});
  }
  return result;
}

}  // namespace halftone
