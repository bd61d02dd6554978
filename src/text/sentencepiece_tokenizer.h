#pragma once

#include <memory>

#include "text/loose_files.h"
#include "text/tokenizer.h"

namespace halftone {

// tokenizer.model through the SentencePiece library. InputError where the program was built
// without.
std::unique_ptr<Tokenizer> load_sentencepiece(const TokenizerFolder& folder);

}  // namespace halftone
