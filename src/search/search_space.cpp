#include "search/search_space.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "formats/codec.h"
#include "search/candidate_rules.h"

namespace halftone {
namespace {

constexpr const char* kNone = "none";
// Costs are counted in 1/16 bits of 1/1024 weights: all bits and most shares of experts are whole.
constexpr double kCostUnits = 16.0 * 1024.0;

bool fits_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return glob_matches(pattern, name); });
}

double bits_of_quantizer(const Quantizer& quantizer) {
  const std::optional<BlockSizes>& blocks = quantizer.block_sizes;
  const bool nvfp4 = quantizer.num_bits == kE2M1 && blocks && blocks->dynamic &&
                     blocks->last == 16 && blocks->scale_bits == kE4M3;
  if (nvfp4) return 4.5;
  const NumberFormat& number = quantizer.num_bits;
  return number.exponent_bits == 0 ? number.bits : number.exponent_bits + number.bits + 1;
}

std::string group_name(const StageSpec& stage, const std::vector<size_t>& linears) {
  const LinearSite& first = stage.linears[linears.front()];
  if (first.expert >= 0) return experts_module(first);
  if (linears.size() == 1) return first.name;
  const std::string parent = first.name.substr(0, first.name.rfind('.') + 1);
  std::string name = first.name;
  for (size_t i = 1; i < linears.size(); ++i) {
    const std::string& other = stage.linears[linears[i]].name;
    name += "," + (other.starts_with(parent) ? other.substr(parent.size()) : other);
  }
  return name;
}

// In module order of their first linear.
std::vector<LinearGroup> groups_of(const StageSpec& stage, size_t index) {
  std::vector<LinearGroup> groups;
  std::map<std::string, size_t> group_of;
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    const LinearSite& linear = stage.linears[i];
    const bool expert = linear.expert >= 0;
    const std::string key = expert                    ? experts_module(linear)
                            : linear.fused_group >= 0 ? std::to_string(linear.fused_group)
                                                      : linear.name;
    const auto [place, added] = group_of.emplace(key, groups.size());
    if (added) groups.emplace_back();
    LinearGroup& group = groups[place->second];
    group.stage = index;
    group.experts = expert;
    group.linears.push_back(i);
    group.weights += linear.out * linear.in;
  }
  for (LinearGroup& group : groups) group.name = group_name(stage, group.linears);
  return groups;
}

// Whether a preset's format can be stored for every linear of the group.
bool can_have(const Model& model, const LinearGroup& group, const Recipe& preset) {
  const StageSpec& stage = model.stages()[group.stage];
  for (const size_t i : group.linears) {
    const LinearSite& linear = stage.linears[i];
    const bool tied = stage.kind == StageKind::kHead && linear.weight != linear.name + ".weight";
    const LinearQuantizers quantizers = quantizers_of(preset, stage, linear);
    if (tied || !quantizers.weight.enabled()) return false;
    try {
      const InputFormat input = input_format_of(quantizers.input, linear.name);
      codec_for(quantizers.weight, input, linear.name)
          ->check_shape(linear.name, linear.out, linear.in);
    } catch (const InputError& error) {
      log_info("'", group.name, "' is no place for ", preset.name, ": ", error.what());
      return false;
    }
  }
  return true;
}

class SpaceBuilder {
 public:
  SpaceBuilder(const Model& model, const SearchOptions& options)
      : model_(model), options_(options) {}

  SearchSpace build() {
    space_.candidates = make_candidates(options_.formats);
    for (size_t s = 0; s < model_.stages().size(); ++s) {
      for (LinearGroup& group : groups_of(model_.stages()[s], s)) {
        space_.groups.push_back(std::move(group));
      }
    }
    check_patterns();
    find_places();
    sort_candidates();
    for (LinearGroup& group : space_.groups) {
      allow(group);
      weigh(group);
    }
    check_used();
    return std::move(space_);
  }

 private:
  const LinearSite& linear(const LinearGroup& group, size_t i) const {
    return model_.stages()[group.stage].linears[i];
  }

  bool has_linear(const LinearGroup& group, const std::vector<std::string>& patterns) const {
    return std::any_of(group.linears.begin(), group.linears.end(),
                       [&](size_t i) { return fits_any(patterns, linear(group, i).name); });
  }

  void check_patterns() const {
    std::vector<std::pair<std::string, const char*>> patterns;
    for (const std::string& pattern : options_.disabled)
      patterns.emplace_back(pattern, "--disable");
    for (const Restriction& one : options_.restrictions) {
      patterns.emplace_back(one.pattern, "--restrict");
    }
    for (const std::string& pattern : options_.uncounted) {
      patterns.emplace_back(pattern, "--cost-exclude");
    }
    for (const auto& [pattern, option] : patterns) {
      const bool fits = std::any_of(
          space_.groups.begin(), space_.groups.end(),
          [&, &text = pattern](const LinearGroup& one) { return has_linear(one, {text}); });
      if (!fits) {
        throw UsageError(
            concat(option, ": '", pattern, "' fits no linear of this model, such as '",
                   linear(space_.groups.front(), space_.groups.front().linears[0]).name, "'"));
      }
    }
  }

  // Fills in which candidates each group could have at all, and their bits.
  void find_places() {
    for (size_t c = 0; c < space_.none(); ++c) {
      Candidate& candidate = space_.candidates[c];
      bool found = false;
      for (LinearGroup& group : space_.groups) {
        if (!can_have(model_, group, *candidate.recipe)) continue;
        group.candidates.push_back(c);
        const StageSpec& stage = model_.stages()[group.stage];
        for (const size_t i : group.linears) {
          const double bits =
              effective_bits(quantizers_of(*candidate.recipe, stage, stage.linears[i]));
          candidate.bits = std::min(candidate.bits, bits);
        }
        found = true;
      }
      if (!found) {
        throw UsageError(concat("no linear of this model can be stored as ", candidate.name,
                                ": leave it out of --formats"));
      }
    }
  }

  void sort_candidates() {
    std::vector<size_t> order(space_.candidates.size());
    for (size_t c = 0; c < order.size(); ++c) order[c] = c;
    std::stable_sort(order.begin(), order.end() - 1, [&](size_t a, size_t b) {
      return space_.candidates[a].bits < space_.candidates[b].bits;
    });
    std::vector<Candidate> sorted;
    std::vector<size_t> place(order.size());
    for (size_t c = 0; c < order.size(); ++c) {
      place[order[c]] = c;
      sorted.push_back(space_.candidates[order[c]]);
    }
    space_.candidates = std::move(sorted);
    for (LinearGroup& group : space_.groups) {
      for (size_t& c : group.candidates) c = place[c];
      std::sort(group.candidates.begin(), group.candidates.end());
    }
  }

  // The restriction for a group; null: none.
  const Restriction* restriction_of(const LinearGroup& group) const {
    const Restriction* found = nullptr;
    for (const Restriction& one : options_.restrictions) {
      const auto fits = std::count_if(group.linears.begin(), group.linears.end(), [&](size_t i) {
        return glob_matches(one.pattern, linear(group, i).name);
      });
      if (fits == 0) continue;
      if (fits < std::ssize(group.linears)) {
        throw UsageError(concat("--restrict: '", one.pattern, "' fits some linears of '",
                                group.name, "' and not all: they share one format"));
      }
      if (found != nullptr) {
        throw UsageError(concat("--restrict: both '", found->pattern, "' and '", one.pattern,
                                "' fit '", group.name, "'"));
      }
      found = &one;
    }
    return found;
  }

  size_t position(const std::string& name, const Restriction& from) const {
    std::vector<std::string> known;
    for (size_t c = 0; c < space_.candidates.size(); ++c) {
      known.push_back(space_.candidates[c].name);
      if (name == known.back()) return c;
    }
    throw UsageError(concat("--restrict: '", from.pattern, "' asks for '", name,
                            "', which is not among --formats", nearest_hint(name, known)));
  }

  void allow(LinearGroup& group) const {
    const auto& formats = options_.formats;
    bool none = std::find(formats.begin(), formats.end(), kNone) != formats.end();
    if (has_linear(group, options_.disabled)) {
      group.candidates.clear();
    } else if (const Restriction* only = restriction_of(group)) {
      std::vector<size_t> allowed;
      none = false;
      for (const std::string& name : only->formats) {
        const size_t c = position(name, *only);
        none = none || c == space_.none();
        const auto& able = group.candidates;
        if (std::find(able.begin(), able.end(), c) != able.end()) allowed.push_back(c);
      }
      std::sort(allowed.begin(), allowed.end());
      group.candidates = allowed;
    }
    if (none || group.candidates.empty()) group.candidates.push_back(space_.none());
  }

  void weigh(LinearGroup& group) {
    const StageSpec& stage = model_.stages()[group.stage];
    if (group.experts && options_.cost == CostModel::kActiveMoe) {
      group.cost_weight = options_.active_ratio > 0.0
                              ? options_.active_ratio
                              : static_cast<double>(stage.experts_per_token) / stage.experts;
    }
    if (has_linear(group, options_.uncounted)) group.cost_weight = 0.0;
    space_.counted += static_cast<double>(group.weights) * group.cost_weight;
  }

  void check_used() const {
    if (space_.counted <= 0.0) {
      throw UsageError("--cost-exclude leaves no weight that a budget could be for");
    }
    for (size_t c = 0; c < space_.none(); ++c) {
      const bool used =
          std::any_of(space_.groups.begin(), space_.groups.end(), [&](const LinearGroup& group) {
            return std::find(group.candidates.begin(), group.candidates.end(), c) !=
                   group.candidates.end();
          });
      if (!used) {
        throw UsageError(concat("--disable and --restrict leave no linear that may be stored as ",
                                space_.candidates[c].name));
      }
    }
  }

  const Model& model_;
  const SearchOptions& options_;
  SearchSpace space_;
};

int64_t cost_of(const LinearGroup& group, double bits) {
  return std::llround(static_cast<double>(group.weights) * group.cost_weight * bits * kCostUnits);
}

}  // namespace

double effective_bits(const LinearQuantizers& quantizers) {
  double bits = 16.0;
  for (const QuantizerSequence* sequence : {&quantizers.weight, &quantizers.input}) {
    for (const Quantizer& quantizer : sequence->stages) {
      if (quantizer.enable) bits = std::min(bits, bits_of_quantizer(quantizer));
    }
  }
  return bits;
}

SearchSpace make_search_space(const Model& model, const SearchOptions& options) {
  return SpaceBuilder(model, options).build();
}

std::vector<ChoiceGroup> choice_groups(const SearchSpace& space,
                                       const std::vector<std::vector<double>>& scores) {
  std::vector<ChoiceGroup> groups;
  for (size_t g = 0; g < space.groups.size(); ++g) {
    const LinearGroup& group = space.groups[g];
    ChoiceGroup& choices = groups.emplace_back();
    choices.name = group.name;
    for (size_t i = 0; i < group.candidates.size(); ++i) {
      const double bits = space.candidates[group.candidates[i]].bits;
      choices.choices.push_back({cost_of(group, bits), scores[g][i]});
    }
  }
  return groups;
}

int64_t budget_of(const SearchSpace& space, double bits) {
  // Costs are rounded one by one: what is a rounding error above the budget is within it.
  const auto slack = static_cast<int64_t>(space.groups.size());
  return static_cast<int64_t>(std::floor(space.counted * bits * kCostUnits)) + slack;
}

double bits_of(const SearchSpace& space, int64_t cost) {
  return static_cast<double>(cost) / (space.counted * kCostUnits);
}

std::vector<size_t> candidates_of(const SearchSpace& space, const std::vector<size_t>& chosen) {
  std::vector<size_t> candidates;
  for (size_t g = 0; g < space.groups.size(); ++g) {
    candidates.push_back(space.groups[g].candidates[chosen[g]]);
  }
  return candidates;
}

std::vector<size_t> everywhere(const SearchSpace& space, size_t candidate) {
  std::vector<size_t> chosen;
  for (const LinearGroup& group : space.groups) {
    const auto& able = group.candidates;
    const bool has = std::find(able.begin(), able.end(), candidate) != able.end();
    chosen.push_back(has ? candidate : space.none());
  }
  return chosen;
}

}  // namespace halftone
