#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "io/safetensors.h"
#include "support.h"

namespace halftone::test {

// A safetensors file of U8 tensors of these sizes; byte i of a tensor is its name's last letter +
// i.
inline void write_shard(const fs::path& path, const std::map<std::string, int64_t>& sizes) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, size] : sizes) specs.push_back({name, DType::kU8, {size}});
  const SafetensorsLayout layout = plan_safetensors(specs);
  std::string bytes = layout.header;
  for (const auto& [name, info] : layout.tensors) {
    for (int64_t i = 0; i < info.bytes; ++i) bytes += static_cast<char>(name.back() + i);
  }
  write_file(path, bytes);
}

inline void write_index(const fs::path& folder, const std::string& weight_map) {
  write_file(folder / "model.safetensors.index.json",
             R"({"metadata":{"total_size":1},"weight_map":)" + weight_map + "}");
}

}  // namespace halftone::test
