#include <algorithm>

#include "core/log.h"
#include "text/jinja_operators.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

bool equal_lists(Run& run, const List& left, const List& right) {
  if (left.kind != right.kind || left.items.size() != right.items.size()) return false;
  for (size_t i = 0; i < left.items.size(); ++i) {
    if (!equal(run, left.items[i], right.items[i])) return false;
  }
  return true;
}

bool equal_dicts(Run& run, const Dict& left, const Dict& right) {
  if (left.items().size() != right.items().size()) return false;
  for (const auto& [key, value] : left.items()) {
    const Value* other = right.find(key);
    if (other == nullptr || !equal(run, value, *other)) return false;
  }
  return true;
}

bool equal_numbers(const Value& left, const Value& right) {
  const auto a = left.integer();
  const auto b = right.integer();
  return a && b ? *a == *b : *left.number() == *right.number();
}

void charge_texts(Run& run, const std::string& left, const std::string& right) {
  run.step(static_cast<int64_t>(std::min(left.size(), right.size())) / kBytesPerStep);
}

}  // namespace

bool equal(Run& run, const Value& left, const Value& right) {
  run.step();
  if (left.is_none() || right.is_none()) return left.is_none() && right.is_none();
  if (left.is_undefined() || right.is_undefined()) {
    return left.is_undefined() && right.is_undefined();
  }
  if (left.text() != nullptr && right.text() != nullptr) {
    charge_texts(run, *left.text(), *right.text());
    return *left.text() == *right.text();
  }
  if (left.number() && right.number()) return equal_numbers(left, right);
  if (left.list() != nullptr && right.list() != nullptr) {
    return left.list() == right.list() || equal_lists(run, *left.list(), *right.list());
  }
  if (left.dict() != nullptr && right.dict() != nullptr) {
    return left.dict() == right.dict() || equal_dicts(run, *left.dict(), *right.dict());
  }
  if (left.callable() != nullptr) return left.callable() == right.callable();
  if (left.loop() != nullptr) return left.loop() == right.loop();
  return left.space() != nullptr && left.space() == right.space();
}

bool less(Run& run, const Value& left, const Value& right) {
  run.step();
  if (left.number() && right.number()) {
    const auto a = left.integer();
    const auto b = right.integer();
    return a && b ? *a < *b : *left.number() < *right.number();
  }
  if (left.text() != nullptr && right.text() != nullptr) {
    charge_texts(run, *left.text(), *right.text());
    return *left.text() < *right.text();  // UTF-8 sorts as code points do
  }
  const bool lists = left.list() != nullptr && right.list() != nullptr &&
                     left.list()->kind == right.list()->kind &&
                     left.list()->kind <= List::Kind::kTuple;
  if (!lists) {
    throw Fault(concat("'", left.defined().type_name(), "' and '", right.defined().type_name(),
                       "' have no order"));
  }
  const auto& a = left.list()->items;
  const auto& b = right.list()->items;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!equal(run, a[i], b[i])) return less(run, a[i], b[i]);
  }
  return a.size() < b.size();
}

bool contains(Run& run, const Value& container, const Value& value) {
  if (const std::string* text = container.text()) {
    if (value.text() == nullptr) {
      throw Fault(concat("'in <str>' needs a text on its left, found ", value.type_name()));
    }
    run.step(static_cast<int64_t>(text->size()) / kBytesPerStep);
    return find_text(*text, *value.text()) != std::string_view::npos;
  }
  if (const Dict* dict = container.dict()) {
    if (value.list() != nullptr || value.dict() != nullptr) {
      throw Fault(concat("a ", value.type_name(), " cannot be a key"));
    }
    return dict->find(value) != nullptr;
  }
  if (container.list() == nullptr && !container.is_undefined()) {
    throw Fault(
        concat("'in' needs a text, a list or a dict on its right, found ", container.type_name()));
  }
  const ListPtr items = run.elements(container);
  return std::ranges::any_of(items->items,
                             [&](const Value& item) { return equal(run, item, value); });
}

bool compare(Run& run, std::string_view op, const Value& left, const Value& right) {
  if (op == "==") return equal(run, left, right);
  if (op == "!=") return !equal(run, left, right);
  if (op == "in") return contains(run, right, left);
  if (op == "not in") return !contains(run, right, left);
  if (op == "<") return less(run, left, right);
  if (op == ">") return less(run, right, left);
  const bool or_equal = op == "<=" ? less(run, left, right) : less(run, right, left);
  return or_equal || equal(run, left, right);
}

}  // namespace halftone::jinja
