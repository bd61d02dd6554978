// Instead of sentencepiece_tokenizer.cpp in a build without the library.
#include "core/error.h"
#include "core/log.h"
#include "text/sentencepiece_tokenizer.h"

namespace halftone {

std::unique_ptr<Tokenizer> load_sentencepiece(const TokenizerFolder& folder) {
  throw InputError(concat((folder.directory / "tokenizer.model").string(),
                          ": this needs the SentencePiece library, and this program was built "
                          "without it: install libsentencepiece-dev and build again, or add the "
                          "model's tokenizer.json"));
}

}  // namespace halftone
