#include "engine/check_weights.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/log.h"
#include "dist/agreement.h"
#include "dist/partition.h"
#include "engine/check_unit.h"

namespace halftone {
namespace {

Json to_json(size_t index, const UnitResult& result) {
  Json findings = Json::array();
  for (const Finding& finding : result.findings) findings.push_back(to_json(finding));
  Json sqnr = Json::object();
  for (const auto& [name, db] : result.sqnr_db) sqnr[name] = db ? Json(*db) : Json();
  return {{"unit", index},
          {"findings", findings},
          {"sqnr", sqnr},
          {"caches", result.cache_scales},
          {"inputs", result.input_scales}};
}

UnitResult unit_result_of(const Json& json) {
  UnitResult result;
  for (const Json& finding : json.at("findings")) result.findings.push_back(finding_of(finding));
  for (const auto& [name, db] : json.at("sqnr").items()) {
    result.sqnr_db[name] = db.is_null() ? std::nullopt : std::optional(db.get<double>());
  }
  result.cache_scales = json.at("caches").get<std::vector<double>>();
  result.input_scales = json.at("inputs").get<std::map<std::string, double>>();
  return result;
}

// Runs of units that are in memory together. One that is large has the threads for itself.
std::vector<std::vector<size_t>> runs_of(const std::vector<CheckUnit>& units,
                                         const std::vector<size_t>& mine) {
  constexpr int64_t kTogether = int64_t{64} << 20;
  std::vector<std::vector<size_t>> runs;
  int64_t filled = 0;
  for (const size_t unit : mine) {
    if (runs.empty() || filled + units[unit].bytes > kTogether) {
      runs.emplace_back();
      filled = 0;
    }
    runs.back().push_back(unit);
    filled += units[unit].bytes;
  }
  return runs;
}

// Every unit's result, in order, on every rank.
std::vector<UnitResult> check_all(const UnitChecker& checker, const std::vector<CheckUnit>& units,
                                  const Cluster& cluster) {
  std::vector<int64_t> costs;
  for (const CheckUnit& unit : units) costs.push_back(unit.bytes + 1);
  const std::vector<int> rank_of = deal_by_cost(costs, cluster.control.size());
  std::vector<size_t> mine;
  for (size_t i = 0; i < units.size(); ++i) {
    if (rank_of[i] == cluster.control.rank()) mine.push_back(i);
  }
  std::vector<UnitResult> results(units.size());
  for (const std::vector<size_t>& run : runs_of(units, mine)) {
    if (run.size() == 1) {
      results[run.front()] = checker.check(units[run.front()]);
      continue;
    }
    cluster.pool.for_each(static_cast<int64_t>(run.size()), [&](int64_t i) {
      const size_t unit = run[static_cast<size_t>(i)];
      results[unit] = checker.check(units[unit]);
    });
  }
  Json texts = Json::array();
  for (const size_t unit : mine) texts.push_back(to_json(unit, results[unit]));
  for (const std::string& text : gather_texts(cluster.control, texts.dump())) {
    for (const Json& one : Json::parse(text)) {
      results[one.at("unit").get<size_t>()] = unit_result_of(one);
    }
  }
  return results;
}

// Scales of a cache that nobody calibrated.
void check_caches(const std::vector<UnitResult>& results, Findings& findings) {
  size_t scales = 0;
  bool all_one = true;
  for (const UnitResult& result : results) {
    scales += result.cache_scales.size();
    for (const double scale : result.cache_scales) all_one = all_one && scale == 1.0;
  }
  if (scales == 0 || !all_one) return;
  findings.push_back({"kv-scales-all-one",
                      {},
                      {},
                      "calibrated scales of keys and values",
                      concat("1 for all ", scales),
                      true});
}

// Engines quantize the inputs of a layer's experts alike (formats-and-hf-export.md, 3.4).
void check_experts(const std::vector<UnitResult>& results, Findings& findings) {
  std::map<std::string, std::pair<double, double>> range_of;
  for (const UnitResult& result : results) {
    for (const auto& [role, scale] : result.input_scales) {
      auto& [least, most] = range_of.emplace(role, std::pair(scale, scale)).first->second;
      least = std::min(least, scale);
      most = std::max(most, scale);
    }
  }
  for (const auto& [role, range] : range_of) {
    if (range.first == range.second) continue;
    findings.push_back({"unequal-expert-input-scales",
                        role,
                        {},
                        "one input scale for all experts of the layer",
                        concat("from ", range.first, " to ", range.second),
                        true});
  }
}

}  // namespace

WeightCheck check_weights(const Checkpoint& checkpoint, const Model& model,
                          const HeaderCheck& headers, const SourceLayout* source, CheckDepth depth,
                          const Cluster& cluster) {
  std::optional<SourceComparison> comparison;
  if (source != nullptr) comparison.emplace(checkpoint, model, headers, *source, cluster.pool);
  const UnitChecker checker(checkpoint, model, headers, comparison ? &*comparison : nullptr, depth,
                            cluster.pool);
  const std::vector<CheckUnit> units = checker.plan();
  const std::vector<UnitResult> results = check_all(checker, units, cluster);
  WeightCheck check;
  std::set<std::pair<std::string, std::string>> seen;  // experts may share a scale
  for (size_t i = 0; i < units.size(); ++i) {
    check.bytes_read += units[i].bytes;
    for (const Finding& finding : results[i].findings) {
      if (seen.emplace(finding.rule, finding.tensor).second) check.findings.push_back(finding);
    }
    check.sqnr_db.insert(results[i].sqnr_db.begin(), results[i].sqnr_db.end());
  }
  check_caches(results, check.findings);
  check_experts(results, check.findings);
  return check;
}

}  // namespace halftone
