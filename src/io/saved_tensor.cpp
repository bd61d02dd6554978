#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "io/pickle_fields.h"
#include "io/safetensors.h"
#include "io/torch_archive.h"
#include "io/torch_globals.h"

namespace halftone {
namespace {

constexpr int64_t kMaxTensorPickle = 1 << 20;
constexpr const char* kRebuild = "torch._utils._rebuild_tensor_v2";
// With the dtype behind the hooks, over an untyped storage.
constexpr const char* kRebuildTyped = "torch._utils._rebuild_tensor_v3";
constexpr const char* kRebuildParameter = "torch._utils._rebuild_parameter";

// ('storage', class, key, device, elements)
struct Storage {
  const PickleValue* type = nullptr;
  std::string key;
};

Storage storage_of(const PickleValue& value, const std::string& source) {
  const PickleValue* id = value.is(PickleValue::Kind::kPersistent) ? value.arguments : nullptr;
  const bool sound = id != nullptr && id->is(PickleValue::Kind::kTuple) && id->items.size() == 5 &&
                     id->items[1]->is(PickleValue::Kind::kGlobal) &&
                     id->items[2]->is(PickleValue::Kind::kText);
  if (!sound || text_of(*id->items[0], source) != "storage") {
    throw InputError(concat(source, ": expected a storage, found ", value.described()));
  }
  return {id->items[1], std::string(id->items[2]->text)};
}

bool is_row_major(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

void require_little_endian(TorchArchive& archive, const std::string& source) {
  // Files of PyTorch before 2.1 do not say; they are of little-endian machines.
  if (!archive.has("byteorder")) return;
  const std::string order = archive.content("byteorder", 16);
  if (order != "little") {
    throw InputError(concat(source, ": byte order '", order, "'; only 'little' is read"));
  }
}

}  // namespace

SavedTensor locate_saved_tensor(const File& file, int64_t begin, int64_t length,
                                const std::string& source) {
  TorchArchive archive(file, begin, length, source);
  const PickleDocument pickle(archive.content("data.pkl", kMaxTensorPickle), tensor_rules(),
                              source);
  const PickleValue* call = &pickle.root();
  const auto arguments_of = [&](const PickleValue& object, size_t least) {
    if (!object.is(PickleValue::Kind::kObject) || object.arguments->items.size() < least) {
      throw InputError(concat(source, ": expected a tensor, found ", object.described()));
    }
    return object.arguments->items;
  };
  if (call->global_name() == kRebuildParameter) call = arguments_of(*call, 1).front();
  const bool typed = call->global_name() == kRebuildTyped;
  if (!typed && call->global_name() != kRebuild) {
    throw InputError(concat(source, ": expected a tensor, found ", call->described()));
  }
  const std::vector<PickleValue*> arguments = arguments_of(*call, typed ? 7 : 6);
  const Storage storage = storage_of(*arguments[0], source);
  const PickleValue& type = typed ? *arguments[6] : *storage.type;
  const std::optional<DType> dtype =
      typed ? dtype_of_torch(type.text, type.name) : dtype_of_storage(type.text, type.name);
  if (!dtype) {
    throw InputError(concat(source, ": the dtype ", type.described(), " is not supported"));
  }
  SavedTensor tensor{*dtype, sizes_of(*arguments[2], source), 0, size_of(*dtype)};
  const std::vector<int64_t> strides = sizes_of(*arguments[3], source);
  const int64_t first = size_value_of(*arguments[1], source);
  tensor.bytes = product_of(tensor.shape, tensor.bytes, source);
  if (strides.size() != tensor.shape.size() ||
      (tensor.bytes > 0 && !is_row_major(tensor.shape, strides))) {
    throw InputError(concat(source, ": strides ", shape_text(strides), " of ",
                            shape_text(tensor.shape), "; expected a tensor in row-major order"));
  }
  require_little_endian(archive, source);
  const TorchArchive::Range data = archive.range("data/" + storage.key);
  int64_t skipped = 0;
  if (__builtin_mul_overflow(first, size_of(*dtype), &skipped) || skipped > data.bytes ||
      tensor.bytes > data.bytes - skipped) {
    throw InputError(concat(source, ": ", name_of(*dtype), " ", shape_text(tensor.shape), " takes ",
                            tensor.bytes, " bytes behind ", skipped, ", but its storage has ",
                            data.bytes));
  }
  tensor.offset = data.offset + skipped;
  return tensor;
}

}  // namespace halftone
