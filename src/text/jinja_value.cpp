#include "text/jinja_value.h"

#include <algorithm>

#include "core/log.h"
#include "text/jinja_runtime.h"

namespace halftone::jinja {
namespace {

void check_depth(int depth) {
  if (depth <= kMaxValueDepth) return;
  throw Fault(concat("lists and dicts nested deeper than ", kMaxValueDepth, " levels"));
}

bool same_number(const Value& left, const Value& right) {
  const auto a = left.integer();
  const auto b = right.integer();
  if (a && b) return *a == *b;
  const auto x = left.number();
  const auto y = right.number();
  return x && y && *x == *y;
}

template <typename T>
const auto* target(const T* pointer) {
  return pointer == nullptr ? nullptr : pointer->get();
}

}  // namespace

Value::Value(std::string text, bool markup)
    : data_(std::make_shared<const Text>(Text{std::move(text), markup})) {}

Value Value::undefined(std::string reason) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
  return value;
}

const std::string* Value::text() const {
  const Text* text = target(std::get_if<TextPtr>(&data_));
  return text == nullptr ? nullptr : &text->bytes;
}

bool Value::is_markup() const {
  const Text* text = target(std::get_if<TextPtr>(&data_));
  return text != nullptr && text->markup;
}

const List* Value::list() const {
  return target(std::get_if<ListPtr>(&data_));
}

const Dict* Value::dict() const {
  return target(std::get_if<DictPtr>(&data_));
}

const Callable* Value::callable() const {
  return target(std::get_if<CallablePtr>(&data_));
}

Loop* Value::loop() const {
  const LoopPtr* loop = std::get_if<LoopPtr>(&data_);
  return loop == nullptr ? nullptr : loop->get();
}

Namespace* Value::space() const {
  Namespace* const* space = std::get_if<Namespace*>(&data_);
  return space == nullptr ? nullptr : *space;
}

std::optional<int64_t> Value::integer() const {
  if (const bool* value = std::get_if<bool>(&data_)) return *value ? 1 : 0;
  if (const int64_t* value = std::get_if<int64_t>(&data_)) return *value;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (const double* value = std::get_if<double>(&data_)) return *value;
  const auto whole = integer();
  return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

const Value& Value::defined() const {
  if (const auto* undefined = std::get_if<Undefined>(&data_)) throw Fault(*undefined->reason);
  return *this;
}

bool Value::truthy() const {
  if (is_none() || is_undefined()) return false;
  if (const auto value = number()) return *value != 0;
  if (const std::string* bytes = text()) return !bytes->empty();
  if (const List* items = list())
    return items->kind == List::Kind::kGenerator || !items->items.empty();
  if (const Dict* items = dict()) return !items->items().empty();
  return true;
}

int Value::depth() const {
  if (const List* items = list()) return items->depth;
  if (const Dict* items = dict()) return items->depth();
  if (const Callable* function = callable()) return function->depth();
  if (const Loop* state = loop()) return state->depth();
  return 0;
}

std::string Value::type_name() const {
  static constexpr const char* kLists[] = {"list",        "tuple",      "range",    "dict_keys",
                                           "dict_values", "dict_items", "generator"};
  static constexpr const char* kNames[] = {"NoneType", "Undefined", "bool",     "int",
                                           "float",    "str",       "list",     "dict",
                                           "function", "loop",      "namespace"};
  if (const List* items = list()) return kLists[static_cast<size_t>(items->kind)];
  return kNames[data_.index()];
}

std::optional<size_t> Dict::place(const Value& key) const {
  if (const std::string* text = key.text()) {
    const auto found = texts_.find(*text);
    return found == texts_.end() ? std::nullopt : std::optional(found->second);
  }
  for (size_t i = 0; i < items_.size(); ++i) {
    const Value& other = items_[i].first;
    if (key.is_none() ? other.is_none() : same_number(key, other)) return i;
  }
  return std::nullopt;
}

void Dict::set(const Value& key, const Value& value) {
  if (key.text() == nullptr && !key.number() && !key.is_none()) {
    throw Fault(concat("a ", key.type_name(), " cannot be a key"));
  }
  depth_ = std::max(depth_, value.depth() + 1);
  check_depth(depth_);
  if (const auto found = place(key)) {
    items_[*found].second = value;
    return;
  }
  items_.emplace_back(key, value);
  if (const std::string* text = key.text()) texts_.emplace(*text, items_.size() - 1);
}

const Value* Dict::find(const Value& key) const {
  const auto found = place(key);
  return found ? &items_[*found].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = texts_.find(key);
  return found == texts_.end() ? nullptr : &items_[found->second].second;
}

Value make_list(std::vector<Value> items, List::Kind kind) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  check_depth(depth + 1);
  return Value(std::make_shared<const List>(List{std::move(items), kind, depth + 1}));
}

Value make_dict(Dict dict) {
  return Value(std::make_shared<const Dict>(std::move(dict)));
}

}  // namespace halftone::jinja
