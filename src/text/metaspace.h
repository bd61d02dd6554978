#pragma once

#include <memory>
#include <string>

#include "text/decoder.h"
#include "text/pre_tokenizer.h"

namespace halftone {

// Metaspace, both as pre-tokenizer and as decoder: spaces as a visible character (U+2581), which
// also stands before the first word.
std::unique_ptr<PreTokenizer> make_metaspace(const Json& part, const std::string& source);
std::unique_ptr<Decoder> make_metaspace_decoder(const Json& part, const std::string& source);

}  // namespace halftone
