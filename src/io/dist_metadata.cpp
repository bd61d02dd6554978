#include "io/dist_metadata.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "io/pickle_fields.h"
#include "io/safetensors.h"
#include "io/shown_name.h"
#include "io/torch_globals.h"

namespace halftone {
namespace {

using Kind = PickleValue::Kind;

constexpr const char* kModule = "torch.distributed.checkpoint.metadata.";

// Where an item lies.
struct Place {
  std::string file;
  int64_t begin = 0;
  int64_t length = 0;
};
// By the offsets of the chunk.
using Places = std::map<std::vector<int64_t>, Place>;

std::vector<std::pair<const PickleValue*, const PickleValue*>> entries_of(
    const PickleValue& dict, const std::string& source) {
  if (!dict.is(Kind::kDict)) {
    throw InputError(concat(source, ": expected a dict, found ", dict.described()));
  }
  std::vector<std::pair<const PickleValue*, const PickleValue*>> entries;
  entries.reserve(dict.items.size() / 2);
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    entries.emplace_back(dict.items[i], dict.items[i + 1]);
  }
  return entries;
}

void read_dtype(const PickleValue& properties, DistTensor& tensor, const std::string& source) {
  // A tuple of the fields in their order, or a dict of them.
  const PickleValue* state = properties.is(Kind::kObject) ? properties.state : nullptr;
  const PickleValue* dtype = nullptr;
  if (state != nullptr && state->is(Kind::kTuple) && !state->items.empty()) {
    dtype = state->items.front();
  } else if (state != nullptr) {
    dtype = state->find("dtype");
  }
  if (dtype == nullptr || !dtype->is(Kind::kGlobal)) {
    throw InputError(concat(source, ": expected properties with a dtype, found ",
                            dtype == nullptr ? properties.described() : dtype->described()));
  }
  tensor.dtype = dtype_of_torch(dtype->text, dtype->name);
  tensor.dtype_name = dtype->global_name();
}

DistTensor read_tensor(const PickleValue& value, const std::string& source) {
  DistTensor tensor;
  read_dtype(field_of(value, "properties", source), tensor, source);
  tensor.shape = sizes_of(field_of(value, "size", source), source);
  const PickleValue& chunks = field_of(value, "chunks", source);
  if (!chunks.is(Kind::kList)) {
    throw InputError(concat(source, ": expected a list of chunks, found ", chunks.described()));
  }
  for (const PickleValue* chunk : chunks.items) {
    tensor.chunks.push_back({sizes_of(field_of(*chunk, "offsets", source), source),
                             sizes_of(field_of(*chunk, "sizes", source), source),
                             {}});
  }
  return tensor;
}

Place read_place(const PickleValue& info, const std::string& source) {
  Place place{text_of(field_of(info, "relative_path", source), source),
              size_value_of(field_of(info, "offset", source), source),
              size_value_of(field_of(info, "length", source), source)};
  if (!is_plain_file_name(place.file)) {
    throw InputError(concat(source, " is placed in ", shown_name(place.file),
                            "; expected the plain name of a file in the same folder"));
  }
  const PickleValue* transforms = info.find("transform_descriptors");
  if (transforms != nullptr && !transforms->is_none() && !transforms->items.empty()) {
    const PickleValue& first = *transforms->items.front();
    throw InputError(concat(source, " is stored through the transformation ", first.described(),
                            "; only items that are stored as they are can be read"));
  }
  return place;
}

// Items of tensors by their names.
std::map<std::string, Places> read_places(const PickleValue& storage, DistMetadata& metadata,
                                          const std::string& source) {
  std::map<std::string, Places> places;
  for (const auto& [index, info] : entries_of(storage, source)) {
    const std::string name = text_of(field_of(*index, "fqn", source), source);
    metadata.files.insert(text_of(field_of(*info, "relative_path", source), source));
    if (!metadata.tensors.contains(name)) continue;
    const std::string where = concat(source, ": tensor ", shown_name(name));
    const PickleValue* offset = index->find("offset");
    if (offset == nullptr || offset->is_none()) {
      throw InputError(concat(where, " is stored as an object, not as a tensor"));
    }
    const std::vector<int64_t> offsets = sizes_of(*offset, where);
    if (!places[name].emplace(offsets, read_place(*info, where)).second) {
      throw InputError(concat(where, ": two items for the chunk at ", shape_text(offsets)));
    }
  }
  return places;
}

void place_chunks(DistTensor& tensor, Places places, const std::string& where) {
  for (DistChunk& chunk : tensor.chunks) {
    const auto found = places.find(chunk.offsets);
    if (found == places.end()) {
      throw InputError(concat(where, ": the chunk ", shape_text(chunk.sizes), " at ",
                              shape_text(chunk.offsets),
                              " is stored nowhere, or listed twice (a part is missing)"));
    }
    chunk.file = found->second.file;
    chunk.begin = found->second.begin;
    chunk.length = found->second.length;
    places.erase(found);
  }
  if (!places.empty()) {
    throw InputError(concat(where, ": an item for the chunk at ", shape_text(places.begin()->first),
                            ", which the tensor does not have"));
  }
}

}  // namespace

DistMetadata read_dist_metadata(const fs::path& path,
                                const std::function<bool(const std::string&)>& wanted) {
  const std::string source = concat("'", path.string(), "'");
  const PickleDocument pickle(read_text_file(path), metadata_rules(), source);
  DistMetadata metadata;
  const PickleValue& listed = field_of(pickle.root(), "state_dict_metadata", source);
  for (const auto& [key, value] : entries_of(listed, source)) {
    const std::string name = text_of(*key, source);
    if (!wanted(name)) continue;
    const std::string where = concat(source, ": tensor ", shown_name(name));
    const std::string kind = value->global_name();
    if (kind == std::string(kModule) + "BytesStorageMetadata") {
      metadata.objects.push_back(name);
    } else if (kind != std::string(kModule) + "TensorStorageMetadata") {
      throw InputError(concat(where, ": expected a tensor's metadata, found ", value->described()));
    } else if (!metadata.tensors.emplace(name, read_tensor(*value, where)).second) {
      throw InputError(concat(where, " is listed twice"));
    }
  }
  std::sort(metadata.objects.begin(), metadata.objects.end());
  std::map<std::string, Places> places =
      read_places(field_of(pickle.root(), "storage_data", source), metadata, source);
  for (auto& [name, tensor] : metadata.tensors) {
    place_chunks(tensor, std::move(places[name]), concat(source, ": tensor ", shown_name(name)));
  }
  return metadata;
}

}  // namespace halftone
