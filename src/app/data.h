#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/options.h"
#include "io/checkpoint.h"
#include "model/model.h"
#include "text/batches.h"

namespace halftone {

// --calib ... --expert-min-tokens: the calibration data and what it is used for.
void add_calibration_options(Options& options);

// A source of samples: files, or an embedded text when there are none.
struct DataRequest {
  std::vector<std::string> files;
  std::string embedded;  // "text/calib_selfwritten.jsonl"
  std::string option;    // "--calib", for messages
  DatasetOptions options;
  PadSide side = PadSide::kLeft;
  bool common_length = true;  // make_batches
};
// What --calib or --data, with their -samples and -length, --text-field and --target-field ask for.
DataRequest data_request(const Options& options, const std::string& name);

// --batch-size; auto: for samples of so many tokens.
int64_t batch_size(const Options& options, int64_t longest);

// The checkpoint's tokenizer; null where it has none.
std::unique_ptr<Tokenizer> tokenizer_of(const Checkpoint& checkpoint);
// The same where there must be one: an InputError otherwise.
std::unique_ptr<Tokenizer> require_tokenizer(const Checkpoint& checkpoint);

struct LoadedData {
  std::vector<Batch> batches;
  int64_t samples = 0;
  std::string fingerprint;  // of the data, whatever its files are called
};
// Reads, tokenizes and makes batches, what an encoder reads or hears included. --batch-size auto
// depends on the data alone, so that every number of ranks makes the same batches. Files of tensors
// (.safetensors: input_ids, input_features, decoder_input_ids, ...; read_model_input()) are a batch
// each and stand alone. A sample longer than the model's positions is an InputError naming it.
LoadedData load_data(const Options& options, const DataRequest& request,
                     const Checkpoint& checkpoint, const Model& model);

}  // namespace halftone
