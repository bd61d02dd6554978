#include "app/data.h"

#include <algorithm>

#include "core/embedded.h"
#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "evaluate/model_input.h"
#include "model/encoder_data.h"

namespace halftone {
namespace {

constexpr const char* kCalibrationText = "text/calib_selfwritten.jsonl";
constexpr const char* kEvaluationText = "text/eval_selfwritten.jsonl";
// Batches of about this many positions keep activations small and matrix products large.
constexpr int64_t kAutoPositions = 16384;
constexpr int64_t kAutoRows = 8;

int64_t longest_of(const Dataset& dataset) {
  size_t longest = 1;
  for (const Sample& sample : dataset.samples) {
    longest = std::max({longest, sample.ids.size(), sample.decoder_ids.size()});
  }
  return static_cast<int64_t>(longest);
}

void check_lengths(const Dataset& dataset, const DataRequest& request, const Model& model) {
  for (const Sample& sample : dataset.samples) {
    const int64_t length = std::ssize(sample.output_ids());
    if (length <= model.max_positions()) continue;
    throw InputError(concat(sample.origin, ": ", length, " tokens, but the model has ",
                            model.max_positions(), " positions: choose a smaller ", request.option,
                            "-length"));
  }
}

bool is_tensor_file(const std::string& file) {
  return fs::path(file).extension() == ".safetensors";
}

bool has_tensor_files(const DataRequest& request) {
  return std::any_of(request.files.begin(), request.files.end(), is_tensor_file);
}

LoadedData load_tensor_files(const DataRequest& request, const Model& model) {
  LoadedData data;
  Sha256 sum;
  for (const std::string& file : request.files) {
    if (!is_tensor_file(file)) {
      throw UsageError(concat(request.option, ": '", file,
                              "' is no file of tensors as the others are: give one kind"));
    }
    data.batches.push_back(read_model_input(file, model));
    data.samples += data.batches.back().rows;
    const std::string of_file = sha256_of_file(file);
    sum.update(of_file.data(), of_file.size());
  }
  data.fingerprint = sum.hex();
  return data;
}

}  // namespace

void add_calibration_options(Options& options) {
  options.group("Calibration data");
  options.paths("calib",
                "JSONL (text or input_ids), text, WAV or .safetensors; default: an embedded text");
  options.integer("calib-samples", 512, 1, 100'000'000, "use the first N samples");
  options.integer("calib-length", 512, 1, 10'000'000, "cut samples to N tokens");
  options.text("text-field", "NAME", "text", "the field of a JSONL line that holds the text");
  options.text("target-field", "NAME", "target",
               "the field that holds the decoder's text, for models with an encoder");
  options.integer_or_auto("batch-size", 1, 65536, "samples per batch");
  options.flag("count-padding", "count padded positions in statistics, as the reference does");
  options.number("moe-calib-experts-ratio", 0.0, 0.0, 1.0,
                 "let every token feed this share of a layer's experts, 1: all; 0: its own");
  options.integer("expert-min-tokens", 1, 0, INT64_MAX,
                  "an expert with fewer tokens falls back to its peers");
  options.choice("calibrate-on", {"source", "compressed"}, "source",
                 "the weights on which statistics are taken; compressed: as they are served");
}

DataRequest data_request(const Options& options, const std::string& name) {
  DataRequest request;
  const bool calibrates = name == "calib";
  const char* embedded = calibrates ? kCalibrationText : kEvaluationText;
  request.side = calibrates ? PadSide::kLeft : PadSide::kRight;
  request.common_length = calibrates;
  request.files = options.get_paths(name);
  request.embedded = embedded;
  request.option = "--" + name;
  request.options.text_field = options.get("text-field");
  request.options.samples = options.get_integer(name + "-samples");
  request.options.max_length = options.get_integer(name + "-length");
  return request;
}

int64_t batch_size(const Options& options, int64_t longest) {
  const int64_t wanted = options.get_integer("batch-size");
  return wanted > 0 ? wanted : std::clamp<int64_t>(kAutoPositions / longest, 1, kAutoRows);
}

std::unique_ptr<Tokenizer> tokenizer_of(const Checkpoint& checkpoint) {
  const std::optional<fs::path>& folder = checkpoint.files();
  return folder && has_tokenizer(*folder) ? load_tokenizer(*folder) : nullptr;
}

std::unique_ptr<Tokenizer> require_tokenizer(const Checkpoint& checkpoint) {
  std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(checkpoint);
  if (tokenizer) return tokenizer;
  throw InputError(concat("'", checkpoint.directory().string(),
                          "' has no tokenizer: put its files there, or name their folder with "
                          "--source-config"));
}

LoadedData load_data(const Options& options, const DataRequest& request,
                     const Checkpoint& checkpoint, const Model& model) {
  if (has_tensor_files(request)) return load_tensor_files(request, model);
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(checkpoint);
  DatasetOptions dataset_options = request.options;
  dataset_options.vocabulary = model.vocabulary();
  dataset_options.decoder = decoder_options(checkpoint, model);
  if (dataset_options.decoder) dataset_options.decoder->target_field = options.get("target-field");
  Dataset dataset;
  if (request.files.empty()) {
    if (model.hears_sound()) {
      throw UsageError(concat(
          "this model hears sound: give WAV files, or JSONL with 'audio', with ", request.option));
    }
    dataset = parse_jsonl_dataset(embedded_file(request.embedded), "the embedded text",
                                  tokenizer.get(), dataset_options);
  } else {
    dataset = load_dataset({request.files.begin(), request.files.end()}, tokenizer.get(),
                           dataset_options);
  }
  check_lengths(dataset, request, model);
  if (dataset.dropped > 0) log_warn(dataset.dropped, " empty samples were left out");
  LoadedData data{{}, std::ssize(dataset.samples), fingerprint(dataset)};
  const TokenId pad_id = tokenizer == nullptr ? 0 : tokenizer->pad_id();
  data.batches =
      make_batches(dataset.samples, batch_size(options, longest_of(dataset)),
                   pad_id < model.vocabulary() ? pad_id : 0, request.side, request.common_length);
  add_features(data.batches, checkpoint);
  return data;
}

}  // namespace halftone
