#include "app/generation.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

std::string decoded(const Tokenizer& tokenizer, const std::vector<int64_t>& tokens) {
  return tokenizer.decode({tokens.begin(), tokens.end()});
}

}  // namespace

void add_generation_options(Options& options) {
  options.group("Generation");
  options.integer("max-tokens", 256, 1, 10'000'000, "end a continuation after N tokens");
  options.number("temperature", 0.0, 0.0, 100.0, "0: always the most probable token");
  options.number("top-p", 1.0, 0.0, 1.0, "draw from the fewest tokens that have this probability");
  options.integer("top-k", 0, 0, 10'000'000, "draw from the N most probable tokens, 0: all");
  options.paths("stop", "strings at which a continuation ends");
  options.integer("generation-batch", 16, 1, 65536, "sequences that are continued at a time");
  options.integer("context", 0, 0, INT64_MAX,
                  "tokens of the longest sequence; 0: what the work needs");
}

Sampling sampling_of(const Options& options) {
  return {options.get_number("temperature"), options.get_number("top-p"),
          options.get_integer("top-k"), static_cast<uint64_t>(options.get_integer("seed"))};
}

std::unique_ptr<PlacedModel> place_model(const Options& options, Evaluated& evaluated,
                                         int64_t needed, const RunSetup& setup) {
  const int64_t longest = evaluated.model->max_positions();
  if (needed > longest) {
    throw InputError(concat("a sequence has ", needed, " tokens, the model ", longest,
                            " positions: shorten it"));
  }
  const int64_t context = options.get_integer("context");
  if (context > 0 && context < needed) {
    throw UsageError(concat("--context ", context, " does not hold a sequence of ", needed,
                            " tokens: raise it"));
  }
  return std::make_unique<PlacedModel>(evaluated.checkpoint, *evaluated.model, *evaluated.source,
                                       evaluated.compute, context > 0 ? context : needed,
                                       setup.cluster());
}

bool StopStrings::found_in(const std::vector<int64_t>& tokens) const {
  if (strings_.empty() || tokenizer_ == nullptr) return false;
  const std::string text = decoded(*tokenizer_, tokens);
  return std::any_of(strings_.begin(), strings_.end(),
                     [&](const std::string& stop) { return text.find(stop) != std::string::npos; });
}

std::string StopStrings::text_of(const std::vector<int64_t>& tokens) const {
  if (tokenizer_ == nullptr) return {};
  std::string text = decoded(*tokenizer_, tokens);
  for (const std::string& stop : strings_) text = text.substr(0, text.find(stop));
  return text;
}

}  // namespace halftone
