#include "text/batches.h"

#include <algorithm>
#include <numeric>

#include "kernels/check.h"

namespace halftone {
namespace {

int64_t longest(const std::vector<Sample>& samples, size_t begin, size_t end) {
  size_t length = 0;
  for (size_t i = begin; i < end; ++i) length = std::max(length, samples[i].ids.size());
  return static_cast<int64_t>(length);
}

}  // namespace

int64_t Batch::tokens() const {
  return std::accumulate(mask.begin(), mask.end(), int64_t{0});
}

std::vector<Batch> make_batches(const std::vector<Sample>& samples, int64_t batch_size,
                                TokenId pad_id, PadSide side, bool common_length) {
  check(batch_size > 0, "a batch holds at least one sample");
  const int64_t common = longest(samples, 0, samples.size());
  std::vector<Batch> batches;
  for (size_t begin = 0; begin < samples.size();) {
    const size_t end = std::min(samples.size(), begin + static_cast<size_t>(batch_size));
    Batch batch;
    batch.rows = static_cast<int64_t>(end - begin);
    batch.length = common_length ? common : longest(samples, begin, end);
    batch.input_ids.assign(static_cast<size_t>(batch.rows * batch.length), pad_id);
    batch.mask.assign(batch.input_ids.size(), 0);
    for (size_t i = begin; i < end; ++i) {
      const std::vector<TokenId>& ids = samples[i].ids;
      const int64_t row = static_cast<int64_t>(i - begin) * batch.length;
      const int64_t shift = side == PadSide::kLeft ? batch.length - std::ssize(ids) : 0;
      std::copy(ids.begin(), ids.end(), batch.input_ids.begin() + row + shift);
      std::fill_n(batch.mask.begin() + row + shift, ids.size(), uint8_t{1});
    }
    batches.push_back(std::move(batch));
    begin = end;
  }
  return batches;
}

}  // namespace halftone
