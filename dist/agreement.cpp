#include "dist/agreement.h"

#include <cstdint>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "kernels/check.h"

namespace halftone {
namespace {

std::string quoted(std::string_view value) {
  constexpr size_t kShown = 120;
  if (value.size() <= kShown) return concat('\'', value, '\'');
  return concat('\'', value.substr(0, kShown), "...' (", value.size(), " characters)");
}

}  // namespace

void require_same(Communicator& communicator, std::string_view what, std::string_view value) {
  check(communicator.device() == Device::kCpu, "texts travel in host memory");
  const auto ranks = static_cast<size_t>(communicator.size());
  std::vector<int64_t> lengths(ranks, 0);
  lengths[static_cast<size_t>(communicator.rank())] = static_cast<int64_t>(value.size());
  communicator.all_gather(lengths.data(), sizeof(int64_t));
  size_t total = 0;
  for (const int64_t length : lengths) total += static_cast<size_t>(length);
  std::string values(total, '\0');
  communicator.all_gather_variable(value.data(), lengths.data(), values.data());

  const std::string_view all = values;
  const std::string_view first = all.substr(0, static_cast<size_t>(lengths[0]));
  size_t start = 0;
  for (size_t rank = 0; rank < ranks; ++rank) {
    const auto length = static_cast<size_t>(lengths[rank]);
    const std::string_view other = all.substr(start, length);
    start += length;
    if (other == first) continue;
    throw UsageError(concat("all ranks need the same ", what, ", but rank 0 has ", quoted(first),
                            " and rank ", rank, " has ", quoted(other)));
  }
}

std::string broadcast_text(Communicator& communicator, std::string text, int root) {
  check(communicator.device() == Device::kCpu, "texts travel in host memory");
  auto length = static_cast<int64_t>(text.size());
  communicator.broadcast(&length, sizeof(length), root);
  text.resize(static_cast<size_t>(length));
  communicator.broadcast(text.data(), length, root);
  return text;
}

}  // namespace halftone
