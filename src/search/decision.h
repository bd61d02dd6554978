#pragma once

#include <optional>
#include <string>
#include <vector>

#include "search/search_space.h"

namespace halftone {

// What a budget led to.
struct Decision {
  std::string name;  // of the output
  double target_bits = 0.0;
  std::vector<size_t> chosen;  // candidate of each group
  double bits = 0.0;           // achieved, as Model Optimizer counts
  double stored_bits = 0.0;    // a weight, scales and all that is stored of it included
  double score = 0.0;
  double gap = 0.0;  // by how much a better assignment could score less at most; 0: none
  std::optional<double> perplexity = {};
};

// Scores as the solver takes them: more bits are never worse (calibration.md, 9.4).
std::vector<std::vector<double>> monotonic(const std::vector<std::vector<double>>& scores);

// The bits of the smallest and of the largest assignment.
struct BitsRange {
  double least = 0.0;
  double most = 0.0;
};
BitsRange bits_range(const SearchSpace& space);
// UsageError with the feasible interval where some budget lies outside.
void check_budgets(const SearchSpace& space, const std::vector<double>& budgets);

// The assignment of least predicted loss within a budget that check_budgets() has seen.
Decision decide(const Model& model, const SearchSpace& space,
                const std::vector<std::vector<double>>& scores, double target_bits,
                DType model_dtype);

// The same of an assignment that somebody chose: `json` is a list as search_json() writes it, or an
// object that holds one under "decisions", of which "name" and "formats" count; a group that is not
// named stays as it is where it may. UsageErrors name `source`.
std::vector<Decision> read_decisions(const Json& json, const std::string& source,
                                     const Model& model, const SearchSpace& space,
                                     const std::vector<std::vector<double>>& scores,
                                     DType model_dtype);

// What is stored of all searched linears, in bits a weight, if each group has this candidate.
double stored_bits(const Model& model, const SearchSpace& space, const std::vector<size_t>& chosen,
                   DType model_dtype);

// The search as JSON: candidates, groups with their scores, the convex frontier, the decisions.
// Nothing in it depends on when or where it was made.
Json search_json(const SearchSpace& space, const std::vector<std::vector<double>>& scores,
                 const std::vector<Decision>& decisions);

}  // namespace halftone
