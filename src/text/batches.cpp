#include "text/batches.h"

#include <algorithm>
#include <numeric>

#include "kernels/check.h"

namespace halftone {
namespace {

using Ids = std::vector<TokenId>;
using IdsOf = const Ids& (*)(const Sample&);

const Ids& encoder_ids(const Sample& sample) {
  return sample.ids;
}
const Ids& output_ids(const Sample& sample) {
  return sample.output_ids();
}

int64_t longest(const std::vector<Sample>& samples, size_t begin, size_t end, IdsOf ids_of) {
  size_t length = 0;
  for (size_t i = begin; i < end; ++i) length = std::max(length, ids_of(samples[i]).size());
  return static_cast<int64_t>(length);
}

struct Rows {
  std::vector<int64_t> ids;
  std::vector<uint8_t> mask;
};

// The ids of samples begin to end in rows of `length`.
Rows pad(const std::vector<Sample>& samples, size_t begin, size_t end, IdsOf ids_of, int64_t length,
         TokenId pad_id, PadSide side) {
  Rows rows;
  rows.ids.assign((end - begin) * static_cast<size_t>(length), pad_id);
  rows.mask.assign(rows.ids.size(), 0);
  for (size_t i = begin; i < end; ++i) {
    const Ids& ids = ids_of(samples[i]);
    const int64_t row = static_cast<int64_t>(i - begin) * length;
    const int64_t shift = side == PadSide::kLeft ? length - std::ssize(ids) : 0;
    std::copy(ids.begin(), ids.end(), rows.ids.begin() + row + shift);
    std::fill_n(rows.mask.begin() + row + shift, ids.size(), uint8_t{1});
  }
  return rows;
}

EncoderBatch make_encoder_batch(const std::vector<Sample>& samples, size_t begin, size_t end,
                                int64_t length, TokenId pad_id) {
  EncoderBatch encoder;
  for (size_t i = begin; i < end; ++i) {
    if (!samples[i].audio.empty()) encoder.audio.push_back(samples[i].audio);
  }
  check(encoder.audio.empty() || encoder.audio.size() == end - begin,
        "an encoder reads ids or hears sound");
  if (!encoder.audio.empty()) return encoder;
  Rows rows = pad(samples, begin, end, encoder_ids, length, pad_id, PadSide::kRight);
  encoder.length = length;
  encoder.ids = std::move(rows.ids);
  encoder.mask = std::move(rows.mask);
  return encoder;
}

}  // namespace

int64_t Batch::tokens() const {
  return std::accumulate(mask.begin(), mask.end(), int64_t{0});
}

std::vector<Batch> make_batches(const std::vector<Sample>& samples, int64_t batch_size,
                                TokenId pad_id, PadSide side, bool common_length) {
  check(batch_size > 0, "a batch holds at least one sample");
  const auto length_of = [&](size_t begin, size_t end, IdsOf ids_of) {
    return common_length ? longest(samples, 0, samples.size(), ids_of)
                         : longest(samples, begin, end, ids_of);
  };
  std::vector<Batch> batches;
  for (size_t begin = 0; begin < samples.size();) {
    const size_t end = std::min(samples.size(), begin + static_cast<size_t>(batch_size));
    const bool has_encoder = samples[begin].has_encoder();
    Batch batch;
    batch.rows = static_cast<int64_t>(end - begin);
    batch.length = length_of(begin, end, output_ids);
    Rows rows = pad(samples, begin, end, output_ids, batch.length, pad_id,
                    has_encoder ? PadSide::kRight : side);
    batch.input_ids = std::move(rows.ids);
    batch.mask = std::move(rows.mask);
    if (has_encoder) {
      batch.encoder =
          make_encoder_batch(samples, begin, end, length_of(begin, end, encoder_ids), pad_id);
    }
    batches.push_back(std::move(batch));
    begin = end;
  }
  return batches;
}

}  // namespace halftone
