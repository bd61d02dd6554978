#pragma once

#include <set>

#include "export/reshard_plan.h"

namespace halftone {

// Collects a plan: declares the tensors of the files and what they are made of.
class ReshardBuilder {
 public:
  // `unified`: every tensor of the unified checkpoint.
  ReshardBuilder(const std::map<std::string, TensorSpec>& unified, size_t files);

  const TensorSpec& source(const std::string& name) const;
  bool has_source(const std::string& name) const { return unified_.count(name) > 0; }

  void declare(size_t file, TensorSpec target);
  // Of a declared tensor. A move that loses bits never returns.
  void move(Move move);
  // All of a tensor, from element `to` on.
  void copy(const std::string& from, size_t file, const std::string& to, int64_t at, bool writes,
            bool returns, bool plus_one = false);
  // `value` in every element of [begin, begin + count) of a declared tensor.
  void fill(size_t file, const std::string& to, int64_t begin, int64_t count, float value);
  void maximum(Maximum maximum) { plan_.maxima.push_back(std::move(maximum)); }
  void require_equal(const std::vector<std::string>& names);

  // Names the files and adds what does not come back.
  ReshardPlan finish(const std::vector<std::string>& file_names);

 private:
  const std::map<std::string, TensorSpec>& unified_;
  std::vector<std::map<std::string, TensorSpec>> targets_;  // per file
  std::set<std::vector<std::string>> equal_;
  ReshardPlan plan_;
};

// Elements of a tensor in its stored form: a packed byte counts as one.
int64_t elements_of(const TensorSpec& spec);
// Whether values are converted between these types; all others keep their bytes.
bool converts(DType from, DType to);

}  // namespace halftone
