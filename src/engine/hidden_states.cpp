#include "engine/hidden_states.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "formats/tensor_bridge.h"
#include "io/safetensors.h"

namespace halftone {
namespace {

// The tensors of a batch by the last part of their names, in the order of the checksum.
std::vector<std::pair<const char*, const at::Tensor*>> tensors_of(const States& states) {
  std::vector<std::pair<const char*, const at::Tensor*>> tensors{{"x", &states.x}};
  if (states.encoder.defined()) tensors.emplace_back("encoder", &states.encoder);
  return tensors;
}

std::string name_of(int64_t batch, const char* part) {
  return concat("batch.", batch, ".", part);
}

SafetensorsLayout layout_of(const std::vector<int64_t>& batches,
                            const std::vector<const States*>& states) {
  std::vector<TensorSpec> specs;
  for (size_t i = 0; i < batches.size(); ++i) {
    for (const auto& [part, tensor] : tensors_of(*states[i])) {
      specs.push_back(
          {name_of(batches[i], part), dtype_of(tensor->scalar_type()), tensor->sizes().vec()});
    }
  }
  return plan_safetensors(specs);
}

at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name, Sha256& sum) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) {
    throw InputError(concat("'", file.path().string(), "' does not hold '", name, "'"));
  }
  const TensorInfo& info = found->second;
  at::Tensor tensor = at::empty(info.shape, scalar_type_of(info.dtype));
  file.read(info, 0, info.bytes, tensor.mutable_data_ptr());
  sum.update(tensor.const_data_ptr(), tensor.nbytes());
  return tensor;
}

}  // namespace

std::vector<StoredBatch> save_states(const fs::path& path, const std::string& name,
                                     const std::vector<int64_t>& batches,
                                     const std::vector<const States*>& states, ThreadPool& pool) {
  const SafetensorsLayout layout = layout_of(batches, states);
  File file = File::create(path);
  file.write_at(0, layout.header.data(), static_cast<int64_t>(layout.header.size()));
  std::vector<StoredBatch> stored(batches.size());
  pool.for_each(static_cast<int64_t>(batches.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    Sha256 sum;
    for (const auto& [part, tensor] : tensors_of(*states[at])) {
      const at::Tensor host = tensor->cpu().contiguous();
      const TensorInfo& info = layout.tensors.at(name_of(batches[at], part));
      file.write_at(info.offset, host.const_data_ptr(), info.bytes);
      sum.update(host.const_data_ptr(), host.nbytes());
    }
    stored[at] = {batches[at], name, sum.hex()};
  });
  file.sync();
  file.close();
  return stored;
}

States load_states(const fs::path& path, const StoredBatch& stored, at::Device device) {
  const SafetensorsFile file(path);
  Sha256 sum;
  States states;
  states.x = read_tensor(file, name_of(stored.batch, "x"), sum);
  const std::string encoder = name_of(stored.batch, "encoder");
  if (file.tensors().count(encoder) > 0) states.encoder = read_tensor(file, encoder, sum);
  if (sum.hex() != stored.sha256) {
    throw InputError(concat("'", path.string(), "': the states of batch ", stored.batch,
                            " do not match their checksum"));
  }
  states.x = states.x.to(device);
  if (states.encoder.defined()) states.encoder = states.encoder.to(device);
  return states;
}

Json to_json(const StoredBatch& stored) {
  return {{"batch", stored.batch}, {"file", stored.file}, {"sha256", stored.sha256}};
}

StoredBatch stored_batch_of(const Json& json, const std::string& source) {
  return {json_member<int64_t>(json, "batch", source),
          json_member<std::string>(json, "file", source),
          json_member<std::string>(json, "sha256", source)};
}

}  // namespace halftone
