#pragma once

#include <string>

namespace halftone {

// The regular expressions of tokenizer.json are written for Oniguruma. This rewrites one for PCRE2
// (with UTF, UCP and MULTILINE) so that it matches the same; where the two differ and no rewriting
// is known, the construct is an InputError that names it. `source` stands for the file and the
// part.
std::string oniguruma_to_pcre2(const std::string& pattern, const std::string& source);

}  // namespace halftone
