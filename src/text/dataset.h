#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "text/tokenizer.h"

namespace halftone {

// Samples of models that have an encoder. The decoder reads what it learns to write, one position
// late (teacher forcing): `start`, then the target without its last id. The target are the ids of
// the line's `target_field`; where it has none, those of the encoder's text itself. A line may give
// "decoder_input_ids" instead, which are taken as they are.
// With `audio` the encoder hears a WAV file: the line's "audio", relative to the JSONL file, or the
// data file itself. The decoder's ids are then those of the text field as the tokenizer gives them,
// behind `start` if it does not begin with that; without a text `start` alone.
struct DecoderOptions {
  TokenId start = 0;  // decoder_start_token_id
  bool audio = false;
  std::string target_field = "target";
};

struct DatasetOptions {
  std::string text_field = "text";
  int64_t samples = 512;     // 0: all
  int64_t max_length = 512;  // ids beyond it are cut on the right, 0: keep
  int64_t vocabulary = 0;    // ids >= it are InputErrors (0: unchecked)
  bool add_special = true;
  std::optional<DecoderOptions> decoder = {};  // of models that have an encoder
};

// One calibration or evaluation sample and where it came from ("file.jsonl, line 3").
struct Sample {
  std::vector<TokenId> ids;  // the encoder's where there is one; empty with `audio`
  std::string origin;
  std::vector<TokenId> decoder_ids = {};  // of models that have an encoder: never empty
  fs::path audio = {};                    // a WAV file that the encoder hears

  bool has_encoder() const { return !decoder_ids.empty(); }
  // What the model's output belongs to: the only ids, or the decoder's.
  const std::vector<TokenId>& output_ids() const { return has_encoder() ? decoder_ids : ids; }
};

// The first `samples` samples of the files in order. By extension: .jsonl/.json lines with the text
// field or "input_ids", or a bare JSON list of ids; .wav is sound; anything else is plain text, one
// sample a file. Of models that have an encoder see DecoderOptions.
// Empty texts are dropped and counted in `dropped`. Malformed lines, wrong types, negative ids and
// invalid UTF-8 are InputErrors with file and line; so is a set without a sample.
// `tokenizer` may be null when all lines hold ids.
struct Dataset {
  std::vector<Sample> samples;
  int64_t dropped = 0;
};
Dataset load_dataset(const std::vector<fs::path>& files, const Tokenizer* tokenizer,
                     const DatasetOptions& options);
// The same rules on JSONL text in memory; `name` stands for the file, and WAV files are relative to
// the working directory.
Dataset parse_jsonl_dataset(std::string_view text, const std::string& name,
                            const Tokenizer* tokenizer, const DatasetOptions& options);

// SHA-256 over the samples' ids and the bytes of WAV files: identifies the data whatever its file
// was called.
std::string fingerprint(const Dataset& dataset);

}  // namespace halftone
