#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"

namespace halftone {

using TokenId = int32_t;

// Text to ids and back, equal to Hugging Face's `tokenizers` on the same tokenizer.json, or to the
// SentencePiece library on the same tokenizer.model.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `text` must be valid UTF-8: InputError naming the byte otherwise. `add_special` adds what the
  // post-processor (or add_bos_token of tokenizer_config.json) adds.
  virtual std::vector<TokenId> encode(std::string_view text, bool add_special = true) const = 0;
  // Ids outside the vocabulary are InputErrors.
  virtual std::string decode(const std::vector<TokenId>& ids, bool skip_special = true) const = 0;
  virtual int64_t vocabulary_size() const = 0;  // largest id + 1, added tokens included
  // From tokenizer_config.json; pad falls back to eos, eos to bos, then to 0: batches are masked.
  virtual TokenId pad_id() const = 0;
  virtual std::optional<TokenId> bos_id() const = 0;
  virtual std::optional<TokenId> eos_id() const = 0;
};

// Reads the tokenizer of a model's folder: tokenizer.json, else tokenizer.model, else vocab.json
// with merges.txt; tokenizer_config.json goes with each. A structure that is not supported is an
// InputError that names the part and the supported ones.
std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& directory);
// Whether the folder has any of these files.
bool has_tokenizer(const fs::path& directory);

// What encode() refuses, as an InputError.
void check_text_utf8(std::string_view text);

}  // namespace halftone
