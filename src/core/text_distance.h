#pragma once

#include <string>
#include <vector>

namespace halftone {

// "" or " (did you mean 'nvfp4'?)": the candidate nearest to `word`, if it is near enough to help.
std::string nearest_hint(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace halftone
