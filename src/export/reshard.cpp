#include "export/reshard.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "export/element_change.h"
#include "export/reshard_builder.h"
#include "io/safetensors_header.h"
#include "kernels/check.h"

namespace halftone {
namespace {

// The sources of a plan that grows.
class SourceIndex {
 public:
  explicit SourceIndex(BytePlan& bytes) : bytes_(bytes) {
    for (size_t s = 0; s < bytes.sources.size(); ++s) index_[bytes.sources[s]] = s;
  }

  size_t of(const fs::path& path) {
    const auto [found, is_new] = index_.emplace(path, bytes_.sources.size());
    if (is_new) bytes_.sources.push_back(path);
    return found->second;
  }

 private:
  BytePlan& bytes_;
  std::map<fs::path, size_t> index_;
};

TargetFile target_file(const std::string& name, const std::string& header, int64_t bytes,
                       size_t group) {
  TargetFile file;
  file.name = name;
  file.bytes = bytes;
  file.group = group;
  file.fills.push_back({0, header, 1});
  return file;
}

ByteMove whole(size_t source, const TensorInfo& from, const TensorInfo& to) {
  return {source, {from.offset, 0, to.offset, 0, from.bytes, 1}, nullptr};
}

ByteMove move_there(const Move& move, size_t source, const TensorInfo& from, const TensorInfo& to) {
  const ElementRun& run = move.run;
  const int64_t size = size_of(from.dtype);
  const int64_t to_size = size_of(to.dtype);
  return {source,
          {from.offset + run.from * size, run.from_stride * size, to.offset + run.to * to_size,
           run.block * to_size, run.block * size, run.count},
          element_change(from.dtype, to.dtype, move.plus_one)};
}

ByteMove move_back(const Move& move, size_t source, const TensorInfo& from, const TensorInfo& to) {
  const ElementRun& run = move.run;
  const int64_t size = size_of(from.dtype);
  const int64_t to_size = size_of(to.dtype);
  return {source,
          {from.offset + run.to * size, run.block * size, to.offset + run.from * to_size,
           run.from_stride * to_size, run.block * size, run.count},
          element_change(from.dtype, to.dtype, /*plus_one=*/false)};
}

std::string bytes_of(float value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

ByteFill maximum_of(const Maximum& maximum, const Checkpoint& unified, const TensorInfo& to) {
  float largest = 0.0f;
  for (const std::string& from : maximum.from) {
    float value = 0.0f;
    unified.read(from, 0, sizeof(value), &value);
    largest = std::max(largest, value);
  }
  const auto scaled = static_cast<float>(static_cast<double>(largest) / maximum.divisor);
  return {to.offset, bytes_of(std::max(scaled, maximum.least)), 1};
}

}  // namespace

void check_equal_scales(const ReshardPlan& plan, const Checkpoint& unified, Communicator& ranks) {
  for (size_t i = 0; i < plan.equal.size(); ++i) {
    if (i % static_cast<size_t>(ranks.size()) != static_cast<size_t>(ranks.rank())) continue;
    const std::vector<std::string>& names = plan.equal[i];
    const std::vector<char> first = unified.read_all(names.front());
    for (const std::string& name : names) {
      if (unified.read_all(name) == first) continue;
      throw InputError(concat(
          "'", names.front(), "' and '", name, "' differ, but TensorRT-LLM stores one for both, ",
          "and weights are not quantized again here: quantize the original with --target trtllm, ",
          "or with --fused-scales"));
    }
  }
  ranks.barrier();
}

void add_sharded(const ReshardPlan& plan, const Checkpoint& unified, const std::string& prefix,
                 const std::string& rest, BytePlan& bytes) {
  const size_t first = bytes.files.size();
  const size_t group = bytes.files.empty() ? 0 : bytes.files.back().group + 1;
  for (size_t f = 0; f < plan.files.size(); ++f) {
    const SafetensorsLayout& layout = plan.files[f].layout;
    bytes.files.push_back(target_file(prefix + plan.files[f].name, layout.header, layout.file_bytes,
                                      group + f / plan.group_files));
  }
  const auto info = [&](size_t file, const std::string& name) -> const TensorInfo& {
    return plan.files[file].layout.tensors.at(name);
  };
  SourceIndex sources(bytes);
  for (const Move& move : plan.moves) {
    if (!move.writes) continue;
    bytes.files[first + move.file].moves.push_back(
        move_there(move, sources.of(unified.file_of(move.from)), unified.info(move.from),
                   info(move.file, move.to)));
  }
  for (const Fill& fill : plan.fills) {
    const int64_t size = std::ssize(fill.element);
    bytes.files[first + fill.file].fills.push_back(
        {info(fill.file, fill.to).offset + fill.begin * size,
         std::string(fill.element.begin(), fill.element.end()), fill.count});
  }
  for (const Maximum& maximum : plan.maxima) {
    bytes.files[first + maximum.file].fills.push_back(
        maximum_of(maximum, unified, info(maximum.file, maximum.to)));
  }
  if (plan.rest.empty()) return;
  const SafetensorsLayout layout = plan_safetensors(plan.rest);
  TargetFile file =
      target_file(prefix + rest, layout.header, layout.file_bytes, bytes.files.back().group + 1);
  for (const auto& [name, to] : layout.tensors) {
    file.moves.push_back(whole(sources.of(unified.file_of(name)), unified.info(name), to));
  }
  bytes.files.push_back(std::move(file));
}

BytePlan plan_unified(const ReshardPlan& plan, const fs::path& folder, const fs::path& rest,
                      const Checkpoint& unified) {
  BytePlan bytes;
  std::map<fs::path, size_t> files;
  for (const std::string& name : unified.names()) files.emplace(unified.file_of(name), 0);
  for (auto& [path, index] : files) {
    index = bytes.files.size();
    const File file = File::open_for_reading(path);
    bytes.files.push_back(
        target_file(path.filename().string(), framed_safetensors_header(file), file.size(), index));
  }
  const auto file_of = [&](const std::string& name) -> TargetFile& {
    return bytes.files[files.at(unified.file_of(name))];
  };
  std::vector<std::unique_ptr<SafetensorsFile>> ranks;
  for (const ReshardPlan::OutputFile& file : plan.files) {
    bytes.sources.push_back(folder / file.name);
    ranks.push_back(std::make_unique<SafetensorsFile>(bytes.sources.back()));
  }
  for (const Move& move : plan.moves) {
    if (!move.returns) continue;
    file_of(move.from).moves.push_back(move_back(
        move, move.file, ranks[move.file]->tensors().at(move.to), unified.info(move.from)));
  }
  if (plan.rest.empty()) return bytes;
  const SafetensorsFile kept(rest);
  bytes.sources.push_back(rest);
  for (const TensorSpec& spec : plan.rest) {
    file_of(spec.name).moves.push_back(
        whole(bytes.sources.size() - 1, kept.tensors().at(spec.name), unified.info(spec.name)));
  }
  return bytes;
}

}  // namespace halftone
