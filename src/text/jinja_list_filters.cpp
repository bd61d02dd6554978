#include <algorithm>
#include <array>

#include "core/log.h"
#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_methods.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

Value filter_length(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "length", {}, 0);
  if (const std::string* text = value.text()) {
    run.step(static_cast<int64_t>(text->size()) / kBytesPerStep);
    return Value(static_cast<int64_t>(code_points(*text)));
  }
  const List* list = value.list();
  if (list != nullptr && list->kind != List::Kind::kGenerator) {
    return Value(static_cast<int64_t>(list->items.size()));
  }
  if (value.dict() != nullptr) return Value(static_cast<int64_t>(value.dict()->items().size()));
  if (value.is_undefined()) return Value(int64_t{0});
  throw Fault(concat("a ", value.type_name(), " has no length"));
}

Value filter_default(Run& /*run*/, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "default", {"default_value", "boolean"}, 0);
  const bool any_false = given[1] != nullptr && given[1]->truthy();
  if (!value.is_undefined() && (!any_false || value.truthy())) return value;
  return given[0] != nullptr ? *given[0] : Value(std::string());
}

Value filter_first(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "first", {}, 0);
  const ListPtr items = run.elements(value);
  return items->items.empty() ? Value::undefined("an empty list has no first item")
                              : items->items.front();
}

Value filter_last(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "last", {}, 0);
  const ListPtr items = run.elements(value);
  return items->items.empty() ? Value::undefined("an empty list has no last item")
                              : items->items.back();
}

Value filter_list(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "list", {}, 0);
  return run.list(run.elements(value)->items);
}

Value filter_items(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "items", {}, 0);
  if (value.is_undefined()) return run.list({}, List::Kind::kGenerator);
  if (value.dict() == nullptr)
    throw Fault(concat("'items' needs a dict, found ", value.type_name()));
  const Value view = run.call(*find_method(value, "items"), {});
  return run.list(view.list()->items, List::Kind::kGenerator);
}

Value filter_reverse(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "reverse", {}, 0);
  if (value.text() != nullptr) {
    const Value step(int64_t{-1});
    return get_slice(run, value, nullptr, nullptr, &step);
  }
  std::vector<Value> items = run.elements(value)->items;
  std::ranges::reverse(items);
  return run.list(std::move(items), List::Kind::kGenerator);
}

Value filter_batch(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "batch", {"linecount", "fill_with"}, 1);
  const int64_t count = integer_argument(*given[0], "batch");
  if (count < 1 || count > run.limits().range) throw Fault("'batch' needs a count from 1 up");
  std::vector<Value> batches;
  std::vector<Value> batch;
  const ListPtr items = run.elements(value);
  for (const Value& item : items->items) {
    if (static_cast<int64_t>(batch.size()) == count) {
      batches.push_back(run.list(std::exchange(batch, {})));
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    if (given[1] != nullptr) batch.resize(static_cast<size_t>(count), *given[1]);
    batches.push_back(run.list(std::move(batch)));
  }
  return run.list(std::move(batches), List::Kind::kGenerator);
}

// Stable, in both directions.
std::vector<Value> sorted(Run& run, std::vector<std::pair<Value, Value>> keyed, bool reverse) {
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    return reverse ? less(run, b.first, a.first) : less(run, a.first, b.first);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return items;
}

Value filter_sort(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "sort", {"reverse", "case_sensitive", "attribute"}, 0);
  const bool reverse = given[0] != nullptr && given[0]->truthy();
  const bool cases = given[1] != nullptr && given[1]->truthy();
  std::vector<std::pair<Value, Value>> keyed;
  const ListPtr items = run.elements(value);
  for (const Value& item : items->items) {
    Value key;
    if (given[2] != nullptr && given[2]->text() != nullptr) {
      std::vector<Value> keys;
      for (const std::string_view part : split(*given[2]->text(), ",", -1, false)) {
        const Value attribute{std::string(part)};
        keys.push_back(sort_key(run, reach(run, item, &attribute), cases));
      }
      key = run.list(std::move(keys));
    } else {
      key = sort_key(run, reach(run, item, given[2]), cases);
    }
    keyed.emplace_back(std::move(key), item);
  }
  return run.list(sorted(run, std::move(keyed), reverse));
}

Value filter_dictsort(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "dictsort", {"case_sensitive", "by", "reverse"}, 0);
  const bool cases = given[0] != nullptr && given[0]->truthy();
  const std::string by = given[1] != nullptr ? text_argument(*given[1], "dictsort") : "key";
  if (by != "key" && by != "value") throw Fault("'dictsort' sorts by key or value");
  if (value.defined().dict() == nullptr) {
    throw Fault(concat("'dictsort' needs a dict, found ", value.type_name()));
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : value.dict()->items()) {
    keyed.emplace_back(sort_key(run, by == "key" ? key : item, cases),
                       run.list({key, item}, List::Kind::kTuple));
  }
  const bool reverse = given[2] != nullptr && given[2]->truthy();
  return run.list(sorted(run, std::move(keyed), reverse));
}

Value filter_unique(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "unique", {"case_sensitive", "attribute"}, 0);
  const bool cases = given[0] != nullptr && given[0]->truthy();
  std::vector<Value> keys;
  std::vector<Value> items;
  const ListPtr elements = run.elements(value);
  for (const Value& item : elements->items) {
    Value key = sort_key(run, reach(run, item, given[1]), cases);
    if (key.dict() != nullptr || key.list() != nullptr) {
      throw Fault(concat("'unique' is not for items of type ", key.type_name()));
    }
    if (std::ranges::any_of(keys, [&](const Value& seen) { return equal(run, seen, key); }))
      continue;
    keys.push_back(std::move(key));
    items.push_back(item);
  }
  return run.list(std::move(items), List::Kind::kGenerator);
}

constexpr std::array kFilters = {
    NamedBuiltin{"length", &filter_length},   NamedBuiltin{"count", &filter_length},
    NamedBuiltin{"default", &filter_default}, NamedBuiltin{"d", &filter_default},
    NamedBuiltin{"first", &filter_first},     NamedBuiltin{"last", &filter_last},
    NamedBuiltin{"list", &filter_list},       NamedBuiltin{"items", &filter_items},
    NamedBuiltin{"reverse", &filter_reverse}, NamedBuiltin{"batch", &filter_batch},
    NamedBuiltin{"sort", &filter_sort},       NamedBuiltin{"dictsort", &filter_dictsort},
    NamedBuiltin{"unique", &filter_unique},
};

}  // namespace

std::span<const NamedBuiltin> list_filters() {
  return kFilters;
}

Value sort_key(Run& run, const Value& value, bool case_sensitive) {
  if (case_sensitive || value.text() == nullptr) return value;
  return run.text(lower_case(*value.text()));
}

}  // namespace halftone::jinja
