#include <algorithm>
#include <array>
#include <span>

#include "core/log.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_methods.h"

namespace halftone::jinja {
namespace {

Value view_of(Run& run, const Value& self, List::Kind kind) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->items()) {
    if (kind == List::Kind::kItems) {
      items.push_back(run.list({key, value}, List::Kind::kTuple));
    } else {
      items.push_back(kind == List::Kind::kKeys ? key : value);
    }
  }
  return run.list(std::move(items), kind);
}

template <List::Kind kKind>
Value method_view(Run& run, const Value& self, const Arguments& arguments) {
  bind(arguments, "items", {}, 0);
  return view_of(run, self, kKind);
}

Value method_get(Run& /*run*/, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "get", {"key", "default"}, 1);
  const Value* found = self.dict()->find(*given[0]);
  if (found != nullptr) return *found;
  return given[1] != nullptr ? *given[1] : Value();
}

Value method_copy(Run& /*run*/, const Value& self, const Arguments& arguments) {
  bind(arguments, "copy", {}, 0);
  return self;  // it never changes
}

Value method_index(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "index", {"value"}, 1);
  const auto& items = self.list()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(run, items[i], *given[0])) return Value(static_cast<int64_t>(i));
  }
  throw Fault("'index' does not find the value");
}

Value method_count(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "count", {"value"}, 1);
  const auto same = [&](const Value& item) { return equal(run, item, *given[0]); };
  return Value(static_cast<int64_t>(std::ranges::count_if(self.list()->items, same)));
}

constexpr std::array kDictMethods = {
    NamedBuiltin{"items", &method_view<List::Kind::kItems>},
    NamedBuiltin{"keys", &method_view<List::Kind::kKeys>},
    NamedBuiltin{"values", &method_view<List::Kind::kValues>},
    NamedBuiltin{"get", &method_get},
    NamedBuiltin{"copy", &method_copy},
};
constexpr std::array kListMethods = {
    NamedBuiltin{"index", &method_index},
    NamedBuiltin{"count", &method_count},
    NamedBuiltin{"copy", &method_copy},
};
// transformers' sandbox forbids these.
constexpr std::array<std::string_view, 5> kDictChanges = {"clear", "pop", "popitem", "setdefault",
                                                          "update"};
constexpr std::array<std::string_view, 8> kListChanges = {"append", "clear", "pop",    "reverse",
                                                          "insert", "sort",  "extend", "remove"};

Value forbidden(const Value& self, std::string_view name) {
  return Value::undefined(
      concat("templates may not change a ", self.type_name(), ": '", name, "' is forbidden"));
}

std::optional<Value> bound(std::span<const NamedBuiltin> methods, const Value& self,
                           std::string_view name) {
  const auto found = std::ranges::find(methods, name, &NamedBuiltin::name);
  if (found == methods.end()) return std::nullopt;
  return Value(CallablePtr(std::make_shared<const BoundBuiltin>(found->function, self)));
}

}  // namespace

std::optional<Value> find_method(const Value& self, std::string_view name) {
  if (self.text() != nullptr) {
    auto found = bound(shaping_methods(), self, name);
    return found ? found : bound(searching_methods(), self, name);
  }
  if (self.dict() != nullptr) {
    if (std::ranges::find(kDictChanges, name) != kDictChanges.end()) return forbidden(self, name);
    return bound(kDictMethods, self, name);
  }
  const List* list = self.list();
  if (list == nullptr || list->kind > List::Kind::kTuple) return std::nullopt;
  if (list->kind == List::Kind::kTuple) {
    return name == "copy" ? std::nullopt : bound(kListMethods, self, name);
  }
  if (std::ranges::find(kListChanges, name) != kListChanges.end()) return forbidden(self, name);
  return bound(kListMethods, self, name);
}

}  // namespace halftone::jinja
