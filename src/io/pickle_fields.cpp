#include "io/pickle_fields.h"

#include "core/error.h"
#include "core/log.h"
#include "io/safetensors.h"

namespace halftone {
namespace {

// A tensor of more dimensions is no weight.
constexpr size_t kMaxDimensions = 8;

}  // namespace

std::string text_of(const PickleValue& value, const std::string& source) {
  if (!value.is(PickleValue::Kind::kText)) {
    throw InputError(concat(source, ": expected a text, found ", value.described()));
  }
  return std::string(value.text);
}

int64_t size_value_of(const PickleValue& value, const std::string& source) {
  if (!value.is(PickleValue::Kind::kInteger) || value.integer < 0) {
    throw InputError(concat(source, ": expected a size, found ", value.described()));
  }
  return value.integer;
}

std::vector<int64_t> sizes_of(const PickleValue& value, const std::string& source) {
  const PickleValue* list = &value;
  if (value.global_name() == "torch.Size" && value.is(PickleValue::Kind::kObject)) {
    list = value.arguments->items.size() == 1 ? value.arguments->items.front() : nullptr;
  }
  const bool sound = list != nullptr &&
                     (list->is(PickleValue::Kind::kTuple) || list->is(PickleValue::Kind::kList));
  if (!sound) throw InputError(concat(source, ": expected sizes, found ", value.described()));
  if (list->items.size() > kMaxDimensions) {
    throw InputError(concat(source, ": ", list->items.size(), " dimensions; at most ",
                            kMaxDimensions, " are read"));
  }
  std::vector<int64_t> sizes;
  for (const PickleValue* size : list->items) sizes.push_back(size_value_of(*size, source));
  return sizes;
}

const PickleValue& field_of(const PickleValue& object, const char* field,
                            const std::string& source) {
  const PickleValue* found = object.find(field);
  if (found == nullptr) {
    throw InputError(
        concat(source, ": expected an object with '", field, "', found ", object.described()));
  }
  return *found;
}

int64_t product_of(const std::vector<int64_t>& sizes, int64_t unit, const std::string& source) {
  int64_t product = unit;
  for (const int64_t size : sizes) {
    if (__builtin_mul_overflow(product, size, &product)) {
      throw InputError(
          concat(source, ": the shape ", shape_text(sizes), " needs more than 2^63 bytes"));
    }
  }
  return product;
}

}  // namespace halftone
