#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/dataset.h"

namespace halftone {

enum class PadSide : uint8_t { kLeft, kRight };

// What an encoder reads beside the decoder's ids, row-major.
struct EncoderBatch {
  int64_t length = 0;           // ids or frames a row
  std::vector<int64_t> ids;     // rows x length; empty: features
  std::vector<uint8_t> mask;    // rows x length; empty: features
  std::vector<float> features;  // rows x channels x length: log-mel frames
  int64_t channels = 0;
  std::vector<fs::path> audio;  // rows WAV files that `features` are made of (model/encoder_data.h)
};

// rows x length, row-major. mask is 1 for a real token, 0 for padding. The decoder's ids where
// there is an encoder.
struct Batch {
  int64_t rows = 0;
  int64_t length = 0;
  std::vector<int64_t> input_ids;
  std::vector<uint8_t> mask;
  std::optional<EncoderBatch> encoder = {};  // of models that have one

  int64_t tokens() const;  // unpadded
  bool padded() const { return tokens() != rows * length; }
};

// Samples in order, `batch_size` a batch, the last may be smaller. `common_length`: every row of
// the whole set has the length of its longest sample, as the reference pads (calibration.md, 1.4);
// otherwise each batch has its own. Samples of encoder-decoder models are padded on the right
// whatever `side`, the encoder's ids and the decoder's each to their own length; batches of WAV
// files leave the encoder's length and features to add_features().
std::vector<Batch> make_batches(const std::vector<Sample>& samples, int64_t batch_size,
                                TokenId pad_id, PadSide side, bool common_length);

}  // namespace halftone
