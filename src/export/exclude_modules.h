#pragma once

#include <string>
#include <vector>

namespace halftone {

// The shortest wildcard patterns that cover every unquantized module and no quantized one, sorted
// by bytes (formats-and-hf-export.md, 4.4). Both lists in module order.
std::vector<std::string> exclude_modules(const std::vector<std::string>& quantized,
                                         const std::vector<std::string>& unquantized);

}  // namespace halftone
