#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/json.h"

namespace halftone {

// A "decoder" of tokenizer.json: makes the text of a list of tokens, which are joined in the end.
class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;

  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

// Without a decoder (`part` is null) spaces stand between the tokens. `source` names it in errors.
std::unique_ptr<Decoder> make_decoder(const Json& part, const std::string& source);

}  // namespace halftone
