#include "dist/agreement.h"

#include <cstdint>

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

std::vector<std::string> gather_texts(Communicator& communicator, std::string_view text) {
  check(communicator.device() == Device::kCpu, "texts travel in host memory");
  const auto ranks = static_cast<size_t>(communicator.size());
  std::vector<int64_t> lengths(ranks, 0);
  lengths[static_cast<size_t>(communicator.rank())] = static_cast<int64_t>(text.size());
  communicator.all_gather(lengths.data(), sizeof(int64_t));
  size_t total = 0;
  for (const int64_t length : lengths) total += static_cast<size_t>(length);
  std::string joined(total, '\0');
  communicator.all_gather_variable(text.data(), lengths.data(), joined.data());
  std::vector<std::string> texts;
  size_t start = 0;
  for (const int64_t length : lengths) {
    texts.push_back(joined.substr(start, static_cast<size_t>(length)));
    start += static_cast<size_t>(length);
  }
  return texts;
}

void require_same(Communicator& communicator, std::string_view what, std::string_view value) {
  const std::vector<std::string> values = gather_texts(communicator, value);
  for (size_t rank = 1; rank < values.size(); ++rank) {
    if (values[rank] == values[0]) continue;
    throw UsageError(concat("all ranks need the same ", what, ", but rank 0 has ",
                            quoted(values[0]), " and rank ", rank, " has ", quoted(values[rank])));
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
