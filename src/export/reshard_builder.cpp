#include "export/reshard_builder.h"

#include <cstring>

#include "kernels/check.h"
#include "kernels/numeric_types.h"

namespace halftone {
namespace {

bool is_wide(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

std::vector<char> element_of(DType dtype, float value) {
  std::vector<char> bytes(static_cast<size_t>(size_of(dtype)));
  if (dtype == DType::kF8E4M3) {
    bytes[0] = static_cast<char>(e4m3_of_float(value));
    return bytes;
  }
  check(is_wide(dtype), "only floating elements are filled");
  with_element(dtype, [&](auto element) {
    const auto stored = decltype(element)::store(value);
    std::memcpy(bytes.data(), &stored, sizeof(stored));
  });
  return bytes;
}

}  // namespace

int64_t elements_of(const TensorSpec& spec) {
  return spec.bytes() / size_of(spec.dtype);
}

bool converts(DType from, DType to) {
  return from != to && is_wide(from) && is_wide(to);
}

ReshardBuilder::ReshardBuilder(const std::map<std::string, TensorSpec>& unified, size_t files)
    : unified_(unified), targets_(files) {}

const TensorSpec& ReshardBuilder::source(const std::string& name) const {
  const auto found = unified_.find(name);
  check(found != unified_.end(), "the unified checkpoint holds the tensor: " + name);
  return found->second;
}

void ReshardBuilder::declare(size_t file, TensorSpec target) {
  const std::string name = target.name;
  const bool is_new = targets_[file].emplace(name, std::move(target)).second;
  check(is_new, "a tensor of a file is declared once: " + name);
}

void ReshardBuilder::move(Move move) {
  const TensorSpec& from = source(move.from);
  const TensorSpec& to = targets_[move.file].at(move.to);
  check(move.run.to + move.run.elements() <= elements_of(to), "a move stays inside " + move.to);
  check(size_of(from.dtype) == size_of(to.dtype) || converts(from.dtype, to.dtype),
        "a move keeps bytes or converts: " + move.to);
  const bool lossless =
      !move.plus_one && (!converts(from.dtype, to.dtype) || to.dtype == DType::kF32);
  move.returns = move.returns && lossless;
  plan_.moves.push_back(std::move(move));
}

void ReshardBuilder::copy(const std::string& from, size_t file, const std::string& to, int64_t at,
                          bool writes, bool returns, bool plus_one) {
  const int64_t count = elements_of(source(from));
  move({from, file, to, {0, 0, at, count, 1}, plus_one, writes, returns});
}

void ReshardBuilder::fill(size_t file, const std::string& to, int64_t begin, int64_t count,
                          float value) {
  if (count == 0) return;
  const TensorSpec& target = targets_[file].at(to);
  check(begin + count <= elements_of(target), "a fill stays inside " + to);
  plan_.fills.push_back({file, to, begin, count, element_of(target.dtype, value)});
}

void ReshardBuilder::require_equal(const std::vector<std::string>& names) {
  if (names.size() > 1 && equal_.insert(names).second) plan_.equal.push_back(names);
}

ReshardPlan ReshardBuilder::finish(const std::vector<std::string>& file_names) {
  for (size_t f = 0; f < targets_.size(); ++f) {
    std::vector<TensorSpec> specs;
    for (const auto& [name, spec] : targets_[f]) specs.push_back(spec);
    plan_.files.push_back({file_names[f], plan_safetensors(specs, /*metadata=*/false)});
  }
  std::map<std::string, int64_t> returned;
  for (const Move& move : plan_.moves) {
    if (move.returns) returned[move.from] += move.run.elements();
  }
  for (const auto& [name, spec] : unified_) {
    const auto found = returned.find(name);
    const int64_t count = found == returned.end() ? 0 : found->second;
    check(count == 0 || count == elements_of(spec), "a tensor comes back whole or not: " + name);
    if (count == 0 && elements_of(spec) > 0) plan_.rest.push_back(spec);
  }
  return std::move(plan_);
}

}  // namespace halftone
