#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.h"
#include "text/regex.h"

namespace halftone {

// What becomes of the matches: each a piece, dropped, joined with what is before or behind it, or
// adjacent ones made one piece.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

// The spans into which `matches` cut a text of `bytes` bytes. `invert`: what lies between the
// matches is taken for the matches.
std::vector<Span> split_spans(const std::vector<Span>& matches, size_t bytes,
                              SplitBehavior behavior, bool invert);

// Split and the pre-tokenizers that are a Split with a pattern of their own.
class Splitter : public PreTokenizer {
 public:
  using Find = std::function<std::vector<Span>(std::string_view text)>;

  Splitter(Find find, SplitBehavior behavior, bool invert = false)
      : find_(std::move(find)), behavior_(behavior), invert_(invert) {}
  void apply(Pieces& pieces) const override;

 private:
  Find find_;
  SplitBehavior behavior_;
  bool invert_;
};

// The registry in pre_tokenizer.cpp takes these.
std::unique_ptr<PreTokenizer> make_split(const Json& part, const std::string& source);
std::unique_ptr<PreTokenizer> make_digits(const Json& part, const std::string& source);
std::unique_ptr<PreTokenizer> make_whitespace(const Json& part, const std::string& source);
std::unique_ptr<PreTokenizer> make_whitespace_split(const Json& part, const std::string& source);
std::unique_ptr<PreTokenizer> make_punctuation(const Json& part, const std::string& source);
std::unique_ptr<PreTokenizer> make_char_delimiter(const Json& part, const std::string& source);

}  // namespace halftone
