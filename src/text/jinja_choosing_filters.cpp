#include <algorithm>
#include <array>
#include <charconv>

#include "core/log.h"
#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_methods.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

Arguments behind(const Arguments& arguments, size_t first) {
  return {
      {arguments.positional.begin() + static_cast<ptrdiff_t>(first), arguments.positional.end()},
      arguments.named};
}

Value filter_attr(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "attr", {"name"}, 1);
  if (value.dict() != nullptr) {  // no keys here, unlike value.name
    const auto found = find_method(value, text_argument(*given[0], "attr"));
    return found ? *found : Value::undefined("a dict has no such attribute");
  }
  return get_attribute(run, value, text_argument(*given[0], "attr"));
}

Value filter_map(Run& run, const Value& value, const Arguments& arguments) {
  std::vector<Value> items;
  if (!value.truthy()) return run.list({}, List::Kind::kGenerator);
  if (arguments.positional.empty()) {
    const auto given = bind(arguments, "map", {"attribute", "default"}, 1);
    const ListPtr elements = run.elements(value);
    for (const Value& item : elements->items) {
      items.push_back(reach(run, item, given[0], given[1]));
    }
    return run.list(std::move(items), List::Kind::kGenerator);
  }
  const std::string& name = text_argument(arguments.positional[0], "map");
  const Builtin filter = find_filter(name);
  if (filter == nullptr) throw Fault(concat("there is no filter '", name, "'"));
  const Arguments rest = behind(arguments, 1);
  const ListPtr elements = run.elements(value);
  for (const Value& item : elements->items) items.push_back(filter(run, item, rest));
  return run.list(std::move(items), List::Kind::kGenerator);
}

// select, reject, selectattr, rejectattr
template <bool kKeep, bool kAttribute>
Value filter_choose(Run& run, const Value& value, const Arguments& arguments) {
  constexpr size_t kTest = kAttribute ? 1 : 0;
  const auto& given = arguments.positional;
  if (kAttribute && given.empty()) throw Fault("'selectattr' needs the name of an attribute");
  if (!value.truthy()) return run.list({}, List::Kind::kGenerator);
  Builtin test = nullptr;
  Arguments rest;
  if (given.size() > kTest) {
    const std::string& name = text_argument(given[kTest], "select");
    test = find_test(name);
    if (test == nullptr) throw Fault(concat("there is no test '", name, "'"));
    rest = behind(arguments, kTest + 1);
  }
  std::vector<Value> items;
  const ListPtr elements = run.elements(value);
  for (const Value& item : elements->items) {
    run.step();
    const Value tested = reach(run, item, kAttribute ? &given[0] : nullptr);
    const bool passes = test == nullptr ? tested.truthy() : test(run, tested, rest).truthy();
    if (passes == kKeep) items.push_back(item);
  }
  return run.list(std::move(items), List::Kind::kGenerator);
}

constexpr std::array kFilters = {
    NamedBuiltin{"attr", &filter_attr},
    NamedBuiltin{"map", &filter_map},
    NamedBuiltin{"select", &filter_choose<true, false>},
    NamedBuiltin{"reject", &filter_choose<false, false>},
    NamedBuiltin{"selectattr", &filter_choose<true, true>},
    NamedBuiltin{"rejectattr", &filter_choose<false, true>},
};

}  // namespace

std::span<const NamedBuiltin> choosing_filters() {
  return kFilters;
}

Value reach(Run& run, const Value& item, const Value* attribute, const Value* fallback) {
  if (attribute == nullptr || attribute->is_none()) return item;
  const auto step = [&](const Value& from, const Value& key) {
    Value found = get_item(run, from, key);
    return found.is_undefined() && fallback != nullptr ? *fallback : found;
  };
  if (attribute->text() == nullptr) return step(item, *attribute);
  Value value = item;
  for (const std::string_view part : split(*attribute->text(), ".", -1, false)) {
    int64_t index = 0;
    const auto end = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool number = !part.empty() && part[0] != '-' && end.ec == std::errc() &&
                        end.ptr == part.data() + part.size();
    value = step(value, number ? Value(index) : Value(std::string(part)));
  }
  return value;
}

Builtin find_filter(std::string_view name) {
  for (const auto filters :
       {text_filters(), number_filters(), list_filters(), choosing_filters()}) {
    const auto found = std::ranges::find(filters, name, &NamedBuiltin::name);
    if (found != filters.end()) return found->function;
  }
  return nullptr;
}

}  // namespace halftone::jinja
