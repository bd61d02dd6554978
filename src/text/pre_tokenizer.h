#pragma once

#include <memory>
#include <string>

#include "core/json.h"
#include "text/pieces.h"

namespace halftone {

// A "pre_tokenizer" of tokenizer.json: cuts or rewrites every piece of a text. Const after
// construction: several threads may share it.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;
  virtual ~PreTokenizer() = default;

  virtual void apply(Pieces& pieces) const = 0;
};

// `part` may be null: that one leaves the text whole. `source` names it in errors.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& part, const std::string& source);

}  // namespace halftone
