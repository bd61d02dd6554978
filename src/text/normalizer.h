#pragma once

#include <memory>
#include <string>

#include "core/json.h"
#include "text/normalized_text.h"

namespace halftone {

// A "normalizer" of tokenizer.json. Const after construction: several threads may share it.
class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;
  virtual ~Normalizer() = default;

  virtual void apply(NormalizedText& text) const = 0;
};

// `part` may be null: that one changes nothing. `source` names it in errors.
std::unique_ptr<Normalizer> make_normalizer(const Json& part, const std::string& source);

}  // namespace halftone
