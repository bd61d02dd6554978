#include <algorithm>

#include "core/log.h"
#include "text/jinja_operators.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

std::optional<size_t> position(int64_t index, size_t size) {
  const auto count = static_cast<int64_t>(size);
  if (index < -count || index >= count) return std::nullopt;
  return static_cast<size_t>(index < 0 ? index + count : index);
}

std::optional<Value> attribute_of(const Value& object, std::string_view name) {
  if (Loop* loop = object.loop()) {
    Value value = loop->attribute(name);
    return value.is_undefined() && name != "previtem" && name != "nextitem"
               ? std::nullopt
               : std::optional(std::move(value));
  }
  if (const Namespace* space = object.space()) {
    const Value* found = space->attributes.find(name);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  return find_method(object, name);
}

std::optional<Value> item_of(Run& run, const Value& object, const Value& key) {
  if (const Dict* dict = object.dict()) {
    const Value* found = dict->find(key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  const auto index = key.integer();
  if (!index) return std::nullopt;
  if (const List* list = object.list(); list != nullptr && list->is_sequence()) {
    const auto at = position(*index, list->items.size());
    return at ? std::optional(list->items[*at]) : std::nullopt;
  }
  if (const std::string* text = object.text()) {
    run.step(static_cast<int64_t>(text->size()) / kBytesPerStep);
    const auto at = position(*index, code_points(*text));
    if (!at) return std::nullopt;
    size_t byte = 0;
    for (size_t seen = 0; seen < *at; ++seen) {
      do {
        ++byte;
      } while ((static_cast<unsigned char>((*text)[byte]) & 0xC0U) == 0x80U);
    }
    size_t end = byte + 1;
    while (end < text->size() && (static_cast<unsigned char>((*text)[end]) & 0xC0U) == 0x80U) ++end;
    return run.text(text->substr(byte, end - byte), object.is_markup());
  }
  return std::nullopt;
}

Value missing(const Value& object, const std::string& name) {
  return Value::undefined(concat("'", object.type_name(), "' has no '", name, "'"));
}

struct Range {
  int64_t start;
  int64_t stop;
  int64_t step;
};

// As Python clips a slice to a length.
Range clipped(const Value* start, const Value* stop, const Value* step, size_t size) {
  const auto number = [](const Value* value) -> std::optional<int64_t> {
    if (value == nullptr || value->is_none()) return std::nullopt;
    const auto whole = value->defined().integer();
    if (!whole) throw Fault(concat("a slice needs integers, found ", value->type_name()));
    return whole;
  };
  const auto length = static_cast<int64_t>(size);
  const int64_t by = number(step).value_or(1);
  if (by == 0) throw Fault("a slice with step 0");
  const int64_t low = by < 0 ? -1 : 0;
  const int64_t high = by < 0 ? length - 1 : length;
  const auto bound = [&](const Value* value, int64_t fallback) {
    const auto given = number(value);
    if (!given) return fallback;
    if (*given < 0) return *given < -length ? low : std::max(*given + length, low);
    return std::min(*given, high);
  };
  return {bound(start, by < 0 ? high : low), bound(stop, by < 0 ? low : high), by};
}

template <typename Take>
void walk(const Range& range, const Take& take) {
  int64_t at = range.start;
  while (range.step > 0 ? at < range.stop : at > range.stop) {
    take(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, range.step, &at)) return;
  }
}

}  // namespace

Value get_attribute(Run& run, const Value& object, std::string_view name) {
  object.defined();
  if (auto found = attribute_of(object, name)) return *std::move(found);
  const std::string key(name);
  if (const Dict* dict = object.dict()) {
    const Value* found = dict->find(std::string_view(key));
    if (found != nullptr) return *found;
  }
  run.step();
  return missing(object, key);
}

Value get_item(Run& run, const Value& object, const Value& key) {
  object.defined();
  if (auto found = item_of(run, object, key)) return *std::move(found);
  if (key.text() != nullptr) {
    if (auto found = attribute_of(object, *key.text())) return *std::move(found);
  }
  const std::string name = key.text() != nullptr ? key.text()->substr(0, 80)
                           : key.integer()       ? std::to_string(*key.integer())
                                                 : key.type_name();
  return missing(object, name);
}

Value get_slice(Run& run, const Value& object, const Value* start, const Value* stop,
                const Value* step) {
  if (const List* list = object.list(); list != nullptr && list->is_sequence()) {
    std::vector<Value> items;
    walk(clipped(start, stop, step, list->items.size()),
         [&](size_t at) { items.push_back(list->items[at]); });
    return run.list(std::move(items), list->kind);
  }
  const std::string* text = object.defined().text();
  if (text == nullptr) return missing(object, "slice");
  const std::vector<size_t> offsets = code_point_offsets(*text);
  run.step(static_cast<int64_t>(text->size()) / kBytesPerStep);
  std::string out;
  walk(clipped(start, stop, step, offsets.size() - 1),
       [&](size_t at) { out.append(*text, offsets[at], offsets[at + 1] - offsets[at]); });
  return run.text(std::move(out), object.is_markup());
}

}  // namespace halftone::jinja
