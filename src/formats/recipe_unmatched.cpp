// Rules that match nothing: most often a misspelt pattern.
#include <algorithm>
#include <numeric>
#include <set>

#include "core/log.h"
#include "formats/recipe.h"

namespace halftone {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// "layers.12.mlp" as "layers.*.mlp": one name stands for all layers and experts.
std::string without_numbers(const std::string& name) {
  std::string result;
  for (size_t i = 0; i < name.size(); ++i) {
    if (!is_digit(name[i]) || (i > 0 && name[i - 1] != '.')) {
      result += name[i];
      continue;
    }
    result += '*';
    while (i + 1 < name.size() && is_digit(name[i + 1])) ++i;
  }
  return result;
}

// The fewest changed, added or removed characters that make the pattern match. '*' takes anything,
// sets count as they are spelt.
size_t glob_distance(const std::string& pattern, const std::string& name) {
  std::vector<size_t> row(name.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (const char p : pattern) {
    size_t diagonal = row[0];
    if (p != '*') ++row[0];
    for (size_t j = 1; j <= name.size(); ++j) {
      const size_t above = row[j];
      row[j] = p == '*' ? std::min(above, row[j - 1])
                        : std::min({above + 1, row[j - 1] + 1,
                                    diagonal + (p == '?' || p == name[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

std::string nearest_name(const std::string& pattern, const std::set<std::string>& names) {
  const auto letters = static_cast<size_t>(
      std::count_if(pattern.begin(), pattern.end(), [](char c) { return c != '*'; }));
  size_t best_distance = std::max<size_t>(2, letters / 3) + 1;
  std::string best;
  for (const std::string& name : names) {
    const size_t distance = glob_distance(pattern, name);
    if (distance >= best_distance) continue;
    best = name;
    best_distance = distance;
  }
  return best;
}

std::string describe(const QuantizerRule& rule, const std::set<std::string>& names) {
  std::string text =
      concat(rule.source, ", line ", rule.line, ": the pattern '", rule.pattern, "'");
  if (!rule.parent_class.empty()) text += concat(" for ", rule.parent_class);
  text += " matches no quantizer of this model";
  const std::string nearest = nearest_name(rule.pattern, names);
  return nearest.empty() ? text : concat(text, "; the nearest is '", nearest, "'");
}

}  // namespace

std::vector<UnmatchedRule> unmatched_rules(const Recipe& recipe,
                                           const std::vector<QuantizerName>& names) {
  std::vector<UnmatchedRule> unmatched;
  std::set<std::string> shapes;
  for (const QuantizerName& one : names) shapes.insert(without_numbers(one.name));
  for (const QuantizerRule& rule : recipe.rules) {
    if (rule.built_in || rule.only_disables()) continue;
    const bool matched = std::any_of(names.begin(), names.end(), [&](const QuantizerName& one) {
      return rule.matches(one.name, one.parent_class);
    });
    if (!matched) unmatched.push_back({rule, describe(rule, shapes)});
  }
  return unmatched;
}

}  // namespace halftone
