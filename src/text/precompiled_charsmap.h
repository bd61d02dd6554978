#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/normalizer.h"

namespace halftone {

// SentencePiece's rules of normalization ("nmt_nfkc" and others) as its trainer stores them: a
// double array (Darts) over UTF-8 whose values point at the replacements.
class PrecompiledCharsmap : public Normalizer {
 public:
  // `blob`: the array's size in bytes, the array, the replacements, each ended by a NUL.
  PrecompiledCharsmap(std::string_view blob, const std::string& source);

  void apply(NormalizedText& text) const override;

 private:
  // The replacement of the shortest rule that begins `text`, as the reference takes it.
  std::optional<std::string_view> find(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

// {"precompiled_charsmap": base64}
std::unique_ptr<Normalizer> make_precompiled(const Json& part, const std::string& source);

}  // namespace halftone
