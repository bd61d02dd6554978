#include "search/candidate_rules.h"

#include <algorithm>
#include <array>
#include <set>

#include "calibrate/algorithm.h"
#include "core/error.h"
#include "core/log.h"
#include "formats/codec.h"

namespace halftone {
namespace {

// What changes nothing but the linear that it is for.
constexpr std::array kAlgorithms{"max",      "mse",      "local_hessian", "smoothquant",
                                 "awq_lite", "awq_full", "awq_clip"};

Candidate make_candidate(const std::string& name) {
  Candidate candidate{name, load_preset(name, "ptq")};
  candidate.name = candidate.recipe->name;
  if (candidate.recipe->propagate == Recipe::Propagate::kQuantized) {
    throw UsageError(concat("'", name, "' calibrates each layer on quantized ones before it and ",
                            "cannot be compared with other formats: leave it out of --formats"));
  }
  for (const AlgorithmSpec& spec : candidate.recipe->algorithms) {
    if (std::find(kAlgorithms.begin(), kAlgorithms.end(), spec.method) != kAlgorithms.end()) {
      continue;
    }
    throw UsageError(concat("'", name, "' is calibrated by ", spec.method, "; a search compares ",
                            "formats of max, mse, local_hessian, smoothquant and AWQ: leave it ",
                            "out of --formats"));
  }
  return candidate;
}

void add_rule(Recipe& recipe, const std::string& pattern, const QuantizerSequence& sequence) {
  if (!sequence.enabled()) return;
  QuantizerRule rule;
  rule.pattern = pattern;
  rule.stages = sequence.stages;
  rule.source = recipe.name;
  rule.built_in = true;
  recipe.rules.push_back(std::move(rule));
}

// One rule for the experts' linears of a role, whose names differ by a number.
void add_rules(const Model& model, const LinearGroup& group, const Recipe& preset, Recipe& recipe) {
  const StageSpec& stage = model.stages()[group.stage];
  std::set<std::string> seen;
  for (const size_t i : group.linears) {
    const LinearSite& linear = stage.linears[i];
    const std::string module =
        linear.expert < 0 ? linear.name : concat(experts_module(linear), ".*.", linear.role);
    if (!seen.insert(module).second) continue;
    const LinearQuantizers quantizers = quantizers_of(preset, stage, linear);
    add_rule(recipe, module + ".weight_quantizer", quantizers.weight);
    add_rule(recipe, module + ".input_quantizer", quantizers.input);
  }
}

bool works_on(const AlgorithmSpec& spec, const Model& model, const SearchSpace& space,
              size_t candidate) {
  const Algorithm& algorithm = algorithm_named(spec.method);
  if (algorithm.fits == nullptr) return true;
  const Recipe& preset = *space.candidates[candidate].recipe;
  for (const LinearGroup& group : space.groups) {
    const auto& able = group.candidates;
    if (std::find(able.begin(), able.end(), candidate) == able.end()) continue;
    const StageSpec& stage = model.stages()[group.stage];
    const LinearSite& linear = stage.linears[group.linears.front()];
    const LinearQuantizers quantizers = quantizers_of(preset, stage, linear);
    LinearFormat format;
    format.input = input_format_of(quantizers.input, linear.name);
    format.codec = codec_for(quantizers.weight, format.input, linear.name);
    if (algorithm.works_on(format)) return true;
  }
  return false;
}

bool names(const Recipe& recipe, const AlgorithmSpec& spec) {
  return std::any_of(recipe.algorithms.begin(), recipe.algorithms.end(),
                     [&](const AlgorithmSpec& other) { return to_json(other) == to_json(spec); });
}

// Those of all formats that are used, each of which leaves the others' linears alone.
std::vector<AlgorithmSpec> algorithms_of(const Model& model, const SearchSpace& space,
                                         const std::set<size_t>& used) {
  std::vector<AlgorithmSpec> all;
  Recipe met;
  met.algorithms.clear();
  for (const size_t c : used) {
    const Candidate& mine = space.candidates[c];
    for (const AlgorithmSpec& spec : mine.recipe->algorithms) {
      if (spec.method == "max" || names(met, spec)) continue;
      for (const size_t other : used) {
        const Candidate& theirs = space.candidates[other];
        if (names(*theirs.recipe, spec) || !works_on(spec, model, space, other)) continue;
        throw UsageError(concat("'", mine.name, "' and '", theirs.name, "' cannot be mixed in one ",
                                "checkpoint: ", spec.method, ", which the first is calibrated by, ",
                                "would work on linears of the second too"));
      }
      met.algorithms.push_back(spec);
    }
  }
  if (!met.algorithms.empty()) return met.algorithms;
  // Formats without scales to calibrate go along with any.
  const bool calibrated =
      std::any_of(space.candidates.begin(), space.candidates.end() - 1,
                  [](const Candidate& one) { return !one.recipe->algorithms.empty(); });
  if (calibrated) met.algorithms.push_back(AlgorithmSpec{"max"});
  return met.algorithms;
}

}  // namespace

std::vector<Candidate> make_candidates(const std::vector<std::string>& names) {
  std::vector<Candidate> candidates;
  for (const std::string& name : names) {
    if (name == "none") continue;
    candidates.push_back(make_candidate(name));
    for (size_t i = 0; i + 1 < candidates.size(); ++i) {
      if (candidates[i].name != candidates.back().name) continue;
      throw UsageError(concat("--formats names '", candidates.back().name, "' twice"));
    }
  }
  if (candidates.empty()) throw UsageError("--formats names no format to quantize to");
  candidates.push_back({"none", std::nullopt});
  return candidates;
}

LinearQuantizers quantizers_of(const Recipe& preset, const StageSpec& stage,
                               const LinearSite& linear) {
  LinearQuantizers quantizers = preset.linear(linear.name);
  if (stage.kind == StageKind::kHead && !quantizers.weight.enabled()) {
    quantizers = {preset.resolve("weight_quantizer", "nn.Linear"),
                  preset.resolve("input_quantizer", "nn.Linear")};
  }
  return quantizers;
}

std::string experts_module(const LinearSite& expert) {
  const std::string tail = concat(".", expert.expert, ".", expert.role);
  return expert.name.substr(0, expert.name.size() - tail.size());
}

Recipe mixed_recipe(const Model& model, const SearchSpace& space, const std::vector<size_t>& chosen,
                    const std::string& name, const std::string& kv_cache) {
  Recipe recipe;
  recipe.name = name;
  recipe.preset = name;
  QuantizerRule off;
  off.pattern = "*";
  off.enable = false;
  off.source = name;
  off.built_in = true;
  recipe.rules.push_back(std::move(off));
  std::set<size_t> used;
  for (size_t g = 0; g < space.groups.size(); ++g) {
    const Candidate& candidate = space.candidates[chosen[g]];
    if (!candidate.recipe) continue;
    used.insert(chosen[g]);
    add_rules(model, space.groups[g], *candidate.recipe, recipe);
  }
  recipe.algorithms = algorithms_of(model, space, used);
  add_kv_cache(recipe, kv_cache);
  return recipe;
}

}  // namespace halftone
