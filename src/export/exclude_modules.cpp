#include "export/exclude_modules.h"

#include <algorithm>
#include <set>

namespace halftone {
namespace {

// Whether a pattern would hit a quantized module: the names themselves are kept sorted, so "x*" is
// forbidden when some quantized name begins with x.
class QuantizedNames {
 public:
  explicit QuantizedNames(const std::vector<std::string>& names)
      : sorted_(names.begin(), names.end()) {}

  bool has(const std::string& name) const { return sorted_.count(name) > 0; }
  bool has_prefix(const std::string& prefix) const {
    const auto found = sorted_.lower_bound(prefix);
    return found != sorted_.end() && found->starts_with(prefix);
  }

 private:
  std::set<std::string> sorted_;
};

void add_patterns_for(const std::string& module, const QuantizedNames& quantized,
                      std::set<std::string>& patterns) {
  for (size_t dot = module.find('.'); dot != std::string::npos; dot = module.find('.', dot + 1)) {
    const std::string prefix = module.substr(0, dot);
    if (!quantized.has_prefix(prefix)) {
      patterns.insert(prefix + "*");
      return;
    }
    if (!quantized.has(prefix) && !quantized.has_prefix(prefix + ".")) {
      patterns.insert(prefix + ".*");
      return;
    }
  }
  if (!quantized.has(module)) patterns.insert(module);
}

}  // namespace

std::vector<std::string> exclude_modules(const std::vector<std::string>& quantized,
                                         const std::vector<std::string>& unquantized) {
  const QuantizedNames names(quantized);
  std::set<std::string> patterns;
  for (const std::string& module : unquantized) add_patterns_for(module, names, patterns);
  return {patterns.begin(), patterns.end()};
}

}  // namespace halftone
