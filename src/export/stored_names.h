#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "kernels/dtype.h"
#include "text/regex.h"

namespace halftone {

// The list of modules that a configuration leaves unquantized.
class ExcludeList {
 public:
  // A list of strings; anything else in it is left out. One that begins with "re:" is a regular
  // expression for the beginning of a name; a broken one is an InputError.
  explicit ExcludeList(const Json& patterns);

  const std::vector<std::string>& patterns() const { return patterns_; }
  // Exactly, or as a shell glob: how the list is meant (formats-and-hf-export.md, 4.4).
  bool covers(const std::string& module) const;

 private:
  std::vector<std::string> patterns_;
  // The same by how they are compared: there may be hundreds of them, and thousands of modules.
  std::set<std::string> exact_;
  std::vector<std::string> prefixes_;  // "x*"
  std::vector<std::string> globs_;
  std::vector<Regex> expressions_;
};

// F32, F16 and BF16: what is not quantized has.
bool is_full_precision(DType dtype);

// Whether a tensor's name is that of a scale, a cache's bias or a low-rank factor.
bool is_quantization_tensor(const std::string& name);

}  // namespace halftone
