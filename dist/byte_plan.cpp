#include "dist/byte_plan.h"

#include "core/log.h"
#include "core/sha256.h"

namespace halftone {
namespace {

void add(Sha256& sum, const std::string& text) {
  const auto size = static_cast<int64_t>(text.size());
  sum.update(&size, sizeof(size));
  sum.update(text.data(), text.size());
}

template <typename... Numbers>
void add_numbers(Sha256& sum, Numbers... numbers) {
  for (const auto number : {static_cast<int64_t>(numbers)...}) sum.update(&number, sizeof(number));
}

}  // namespace

std::string fingerprint_of(const BytePlan& plan) {
  Sha256 sum;
  for (const fs::path& source : plan.sources) {
    add(sum, source.filename().string());
    add_numbers(sum, File::open_for_reading(source).size(), change_time(source));
  }
  for (const TargetFile& file : plan.files) {
    add(sum, file.name);
    add_numbers(sum, file.bytes, file.moves.size(), file.fills.size());
    for (const ByteMove& move : file.moves) {
      const ByteRun& run = move.run;
      add_numbers(sum, move.source, run.from, run.from_stride, run.to, run.to_stride, run.block,
                  run.count, move.change ? move.change->from_bytes : 0,
                  move.change ? move.change->to_bytes : 0);
    }
    for (const ByteFill& fill : file.fills) {
      add(sum, fill.bytes);
      add_numbers(sum, fill.to, fill.count);
    }
  }
  return sum.hex();
}

}  // namespace halftone
