#pragma once

#include <memory>

#include "text/loose_files.h"
#include "text/tokenizer.h"

namespace halftone {

// vocab.json and merges.txt, which GPT-2, Qwen and Whisper came with before tokenizer.json.
std::unique_ptr<Tokenizer> load_bpe_files(const TokenizerFolder& folder);

}  // namespace halftone
