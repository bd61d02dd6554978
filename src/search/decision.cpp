#include "search/decision.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "calibrate/target_plan.h"
#include "core/error.h"
#include "core/log.h"
#include "kernels/check.h"
#include "search/candidate_rules.h"
#include "search/frontier.h"

namespace halftone {
namespace {

std::vector<std::vector<double>> nothing(const SearchSpace& space) {
  std::vector<std::vector<double>> scores;
  for (const LinearGroup& group : space.groups) scores.emplace_back(group.candidates.size(), 0.0);
  return scores;
}

// Fills in what follows from the candidates.
void describe(const Model& model, const SearchSpace& space,
              const std::vector<std::vector<double>>& scores, DType model_dtype,
              Decision& decision) {
  double cost = 0.0;
  for (size_t g = 0; g < space.groups.size(); ++g) {
    const LinearGroup& group = space.groups[g];
    const size_t c = decision.chosen[g];
    const auto i = std::find(group.candidates.begin(), group.candidates.end(), c);
    decision.score += scores[g][static_cast<size_t>(i - group.candidates.begin())];
    cost += static_cast<double>(group.weights) * group.cost_weight * space.candidates[c].bits;
  }
  decision.bits = cost / space.counted;
  const bool any = std::any_of(decision.chosen.begin(), decision.chosen.end(),
                               [&](size_t c) { return c != space.none(); });
  if (!any) {
    throw UsageError(concat("'", decision.name, "' leaves every linear unquantized: choose fewer ",
                            "bits, or other formats"));
  }
  decision.stored_bits = stored_bits(model, space, decision.chosen, model_dtype);
}

Decision read_decision(const Json& json, const std::string& source, const SearchSpace& space) {
  Decision decision;
  decision.name = json_member<std::string>(json, "name", source);
  const Json formats = json.value("formats", Json());
  if (!formats.is_object() || decision.name.empty() ||
      decision.name.find('/') != std::string::npos || decision.name.front() == '.') {
    throw UsageError(concat("'", source, "': a decision has a name that a folder may have, and ",
                            "\"formats\", one a group"));
  }
  std::map<std::string, std::string> wanted;
  for (const auto& [group, format] : formats.items()) {
    wanted[group] = format.is_string() ? format.get<std::string>() : "";
  }
  for (const LinearGroup& group : space.groups) {
    const auto found = wanted.find(group.name);
    const std::string name = found == wanted.end() ? "none" : found->second;
    if (found != wanted.end()) wanted.erase(found);
    const auto able = std::find_if(group.candidates.begin(), group.candidates.end(),
                                   [&](size_t c) { return space.candidates[c].name == name; });
    if (able == group.candidates.end()) {
      throw UsageError(concat("'", source, "': '", decision.name, "' gives '", group.name, "' ",
                              name, ", which is not among its formats"));
    }
    decision.chosen.push_back(*able);
  }
  if (wanted.empty()) return decision;
  throw UsageError(concat("'", source, "': '", decision.name, "' speaks of '",
                          wanted.begin()->first, "', which is no group of this model"));
}

// "4.8", "5"
std::string short_text(double number) {
  std::string text = std::to_string(number);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

int64_t bits_of_tensors(const std::vector<TensorSpec>& tensors) {
  return std::accumulate(tensors.begin(), tensors.end(), int64_t{0},
                         [](int64_t sum, const TensorSpec& one) { return sum + 8 * one.bytes(); });
}

}  // namespace

std::vector<std::vector<double>> monotonic(const std::vector<std::vector<double>>& scores) {
  std::vector<std::vector<double>> fixed = scores;
  for (std::vector<double>& group : fixed) {
    for (size_t i = 1; i < group.size(); ++i) group[i] = std::min(group[i], group[i - 1]);
  }
  return fixed;
}

BitsRange bits_range(const SearchSpace& space) {
  const CostRange range = cost_range(choice_groups(space, nothing(space)));
  return {bits_of(space, range.least), bits_of(space, range.most)};
}

void check_budgets(const SearchSpace& space, const std::vector<double>& budgets) {
  const CostRange range = cost_range(choice_groups(space, nothing(space)));
  const BitsRange bits = bits_range(space);
  // The largest may be given as it is shown here.
  constexpr double kShown = 1e-6;
  for (const double budget : budgets) {
    const bool small = budget_of(space, budget) < range.least;
    if (!small && budget <= bits.most + kShown) continue;
    throw UsageError(concat("--bits ", short_text(budget), " is out of reach: with these formats, ",
                            "and with what stays unquantized, there are ", short_text(bits.least),
                            " to ", short_text(bits.most), " bits a weight",
                            small ? "; choose more bits, other --formats, or --cost-exclude what "
                                    "stays unquantized"
                                  : "; choose fewer bits, or add none to --formats"));
  }
}

double stored_bits(const Model& model, const SearchSpace& space, const std::vector<size_t>& chosen,
                   DType model_dtype) {
  const TargetPlan plan =
      plan_target(model, mixed_recipe(model, space, chosen, "stored", /*kv_cache=*/"none"));
  double bits = 0.0;
  double weights = 0.0;
  for (const LinearGroup& group : space.groups) {
    const StageSpec& stage = model.stages()[group.stage];
    weights += static_cast<double>(group.weights);
    for (const size_t i : group.linears) {
      const LinearSite& linear = stage.linears[i];
      const LinearFormat& format = plan.stages[group.stage].linears[i];
      const int64_t of_linear =
          format.quantized()
              ? bits_of_tensors(stored_tensors(format, linear.out, linear.in, model_dtype))
              : 8 * size_of(model_dtype) * linear.out * linear.in;
      bits += static_cast<double>(of_linear);
    }
  }
  return bits / weights;
}

Decision decide(const Model& model, const SearchSpace& space,
                const std::vector<std::vector<double>>& scores, double target_bits,
                DType model_dtype) {
  const std::optional<Assignment> best =
      solve(choice_groups(space, monotonic(scores)), budget_of(space, target_bits));
  check(best.has_value(), "a budget that was checked has an assignment");
  Decision decision;
  decision.name = concat("auto_", short_text(target_bits));
  decision.target_bits = target_bits;
  decision.chosen = candidates_of(space, best->chosen);
  decision.gap = best->score - best->bound;
  describe(model, space, monotonic(scores), model_dtype, decision);
  return decision;
}

std::vector<Decision> read_decisions(const Json& json, const std::string& source,
                                     const Model& model, const SearchSpace& space,
                                     const std::vector<std::vector<double>>& scores,
                                     DType model_dtype) {
  const Json list = json.is_object() ? json.value("decisions", Json()) : json;
  if (!list.is_array() || list.empty()) {
    throw UsageError(concat("'", source, "' holds no list of decisions"));
  }
  std::vector<Decision> decisions;
  for (const Json& one : list) {
    decisions.push_back(read_decision(one, source, space));
    describe(model, space, monotonic(scores), model_dtype, decisions.back());
    decisions.back().target_bits = decisions.back().bits;
    for (size_t i = 0; i + 1 < decisions.size(); ++i) {
      if (decisions[i].name != decisions.back().name) continue;
      throw UsageError(concat("'", source, "' names '", decisions[i].name, "' twice"));
    }
  }
  return decisions;
}

Json search_json(const SearchSpace& space, const std::vector<std::vector<double>>& scores,
                 const std::vector<Decision>& decisions) {
  Json json;
  json["candidates"] = Json::array();
  for (const Candidate& candidate : space.candidates) {
    json["candidates"].push_back({{"format", candidate.name}, {"bits", candidate.bits}});
  }
  json["groups"] = Json::array();
  for (size_t g = 0; g < space.groups.size(); ++g) {
    const LinearGroup& group = space.groups[g];
    Json of_group{{"name", group.name},
                  {"weights", group.weights},
                  {"cost_weight", group.cost_weight},
                  {"scores", Json::object()}};
    for (size_t i = 0; i < group.candidates.size(); ++i) {
      of_group["scores"][space.candidates[group.candidates[i]].name] = scores[g][i];
    }
    json["groups"].push_back(of_group);
  }
  json["frontier"] = Json::array();
  for (const Assignment& point : pareto_frontier(choice_groups(space, monotonic(scores)))) {
    Json weights = Json::object();
    const std::vector<size_t> chosen = candidates_of(space, point.chosen);
    for (size_t g = 0; g < chosen.size(); ++g) {
      Json& sum = weights[space.candidates[chosen[g]].name];
      sum = (sum.is_null() ? int64_t{0} : sum.get<int64_t>()) + space.groups[g].weights;
    }
    json["frontier"].push_back(
        {{"bits", bits_of(space, point.cost)}, {"score", point.score}, {"weights", weights}});
  }
  json["decisions"] = Json::array();
  for (const Decision& decision : decisions) {
    Json formats = Json::object();
    for (size_t g = 0; g < decision.chosen.size(); ++g) {
      formats[space.groups[g].name] = space.candidates[decision.chosen[g]].name;
    }
    Json one{{"name", decision.name},   {"target_bits", decision.target_bits},
             {"bits", decision.bits},   {"stored_bits", decision.stored_bits},
             {"score", decision.score}, {"gap", decision.gap},
             {"formats", formats}};
    if (decision.perplexity) one["perplexity"] = *decision.perplexity;
    json["decisions"].push_back(one);
  }
  return json;
}

}  // namespace halftone
