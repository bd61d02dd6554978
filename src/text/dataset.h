#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "text/tokenizer.h"

namespace halftone {

struct DatasetOptions {
  std::string text_field = "text";
  int64_t samples = 512;     // 0: all
  int64_t max_length = 512;  // ids beyond it are cut on the right, 0: keep
  int64_t vocabulary = 0;    // ids >= it are InputErrors (0: unchecked)
  bool add_special = true;
};

// One calibration or evaluation sample and where it came from ("file.jsonl, line 3").
struct Sample {
  std::vector<TokenId> ids;
  std::string origin;
};

// The first `samples` samples of the files in order. By extension: .jsonl/.json lines with the text
// field or "input_ids", or a bare JSON list of ids; anything else is plain text, one sample a file.
// Empty texts are dropped and counted in `dropped`. Malformed lines, wrong types, negative ids and
// invalid UTF-8 are InputErrors with file and line; so is a set without a sample.
// `tokenizer` may be null when all lines hold ids.
struct Dataset {
  std::vector<Sample> samples;
  int64_t dropped = 0;
};
Dataset load_dataset(const std::vector<fs::path>& files, const Tokenizer* tokenizer,
                     const DatasetOptions& options);
// The same rules on JSONL text in memory; `name` stands for the file.
Dataset parse_jsonl_dataset(std::string_view text, const std::string& name,
                            const Tokenizer* tokenizer, const DatasetOptions& options);

// SHA-256 over the samples' ids: identifies the data whatever its file was called.
std::string fingerprint(const Dataset& dataset);

}  // namespace halftone
