#pragma once

#include <memory>

#include "app/evaluated.h"
#include "evaluate/generation/generator.h"
#include "text/tokenizer.h"

namespace halftone {

// What commands that generate text share.

// --max-tokens, --temperature, --top-p, --top-k, --stop, --generation-batch, --context
void add_generation_options(Options& options);
// Of these and --seed.
Sampling sampling_of(const Options& options);

// The model with its weights on the ranks, for sequences of up to --context tokens (0: the longest
// one that is `needed`). Collective.
std::unique_ptr<PlacedModel> place_model(const Options& options, Evaluated& evaluated,
                                         int64_t needed, const RunSetup& setup);

// Finds out whether a text has come to one of the strings at which it stops.
class StopStrings {
 public:
  StopStrings(const Tokenizer* tokenizer, std::vector<std::string> strings)
      : tokenizer_(tokenizer), strings_(std::move(strings)) {}

  bool found_in(const std::vector<int64_t>& tokens) const;
  // The text of the tokens up to the first stop string, special tokens left out.
  std::string text_of(const std::vector<int64_t>& tokens) const;

 private:
  const Tokenizer* tokenizer_;  // null: no text
  std::vector<std::string> strings_;
};

}  // namespace halftone
