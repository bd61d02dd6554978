#include <algorithm>
#include <array>

#include "core/log.h"
#include "text/jinja_operators.h"
#include "text/jinja_print.h"
#include "text/jinja_string_methods.h"

namespace halftone::jinja {
namespace {

template <bool (*kTest)(const Value& value)>
Value test_of(Run& /*run*/, const Value& value, const Arguments& arguments) {
  bind(arguments, "a test", {}, 0);
  return Value(kTest(value));
}

bool is_defined(const Value& value) {
  return !value.is_undefined();
}
bool is_undefined(const Value& value) {
  return value.is_undefined();
}
bool is_none(const Value& value) {
  return value.is_none();
}
bool is_boolean(const Value& value) {
  return value.is_bool();
}
bool is_true(const Value& value) {
  return value.is_bool() && value.truthy();
}
bool is_false(const Value& value) {
  return value.is_bool() && !value.truthy();
}
bool is_integer(const Value& value) {
  return !value.is_bool() && value.integer().has_value();
}
bool is_float(const Value& value) {
  return value.is_float();
}
bool is_number(const Value& value) {
  return value.number().has_value();
}
bool is_text(const Value& value) {
  return value.text() != nullptr;
}
bool is_mapping(const Value& value) {
  return value.dict() != nullptr;
}
bool is_callable(const Value& value) {
  return value.callable() != nullptr || value.loop() != nullptr || value.is_undefined();
}
bool is_escaped(const Value& value) {
  return value.is_markup();
}

bool is_sequence(const Value& value) {
  return value.text() != nullptr || value.dict() != nullptr || value.is_undefined() ||
         (value.list() != nullptr && value.list()->is_sequence());
}

bool is_iterable(const Value& value) {
  return value.text() != nullptr || value.dict() != nullptr || value.is_undefined() ||
         value.list() != nullptr;
}

template <int64_t kRest>
Value test_parity(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "odd", {}, 0);
  const Value two(int64_t{2});
  return Value(equal(run, arithmetic(run, "%", value, two), Value(kRest)));
}

Value test_divisible(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "divisibleby", {"num"}, 1);
  return Value(equal(run, arithmetic(run, "%", value, *given[0]), Value(int64_t{0})));
}

template <bool kUpper>
Value test_case(Run& run, const Value& value, const Arguments& arguments) {
  const Value text = run.text(to_text(run, value));
  return run.call(*find_method(text, kUpper ? "isupper" : "islower"), arguments);
}

Value test_same(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "sameas", {"other"}, 1);
  const bool list = value.list() != nullptr || given[0]->list() != nullptr;
  const bool dict = value.dict() != nullptr || given[0]->dict() != nullptr;
  if (list || dict) {
    return Value(value.list() == given[0]->list() && value.dict() == given[0]->dict());
  }
  return Value(value.type_name() == given[0]->type_name() && equal(run, value, *given[0]));
}

Value test_filter_name(Run& /*run*/, const Value& value, const Arguments& arguments) {
  bind(arguments, "filter", {}, 0);
  return Value(value.text() != nullptr && find_filter(*value.text()) != nullptr);
}

Value test_test_name(Run& /*run*/, const Value& value, const Arguments& arguments) {
  bind(arguments, "test", {}, 0);
  return Value(value.text() != nullptr && find_test(*value.text()) != nullptr);
}

enum class Order { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn };

template <Order kOrder>
Value test_order(Run& run, const Value& value, const Arguments& arguments) {
  static constexpr std::array<std::string_view, 7> kOperators = {
      "==", "!=", "<", "<=", ">", ">=", "in"};
  const auto given = bind(arguments, "a comparison", {"other"}, 1);
  return Value(compare(run, kOperators[static_cast<size_t>(kOrder)], value, *given[0]));
}

constexpr std::array kTests = {
    NamedBuiltin{"defined", &test_of<&is_defined>},
    NamedBuiltin{"undefined", &test_of<&is_undefined>},
    NamedBuiltin{"none", &test_of<&is_none>},
    NamedBuiltin{"boolean", &test_of<&is_boolean>},
    NamedBuiltin{"true", &test_of<&is_true>},
    NamedBuiltin{"false", &test_of<&is_false>},
    NamedBuiltin{"integer", &test_of<&is_integer>},
    NamedBuiltin{"float", &test_of<&is_float>},
    NamedBuiltin{"number", &test_of<&is_number>},
    NamedBuiltin{"string", &test_of<&is_text>},
    NamedBuiltin{"mapping", &test_of<&is_mapping>},
    NamedBuiltin{"sequence", &test_of<&is_sequence>},
    NamedBuiltin{"iterable", &test_of<&is_iterable>},
    NamedBuiltin{"callable", &test_of<&is_callable>},
    NamedBuiltin{"escaped", &test_of<&is_escaped>},
    NamedBuiltin{"odd", &test_parity<1>},
    NamedBuiltin{"even", &test_parity<0>},
    NamedBuiltin{"divisibleby", &test_divisible},
    NamedBuiltin{"lower", &test_case<false>},
    NamedBuiltin{"upper", &test_case<true>},
    NamedBuiltin{"sameas", &test_same},
    NamedBuiltin{"filter", &test_filter_name},
    NamedBuiltin{"test", &test_test_name},
    NamedBuiltin{"in", &test_order<Order::kIn>},
    NamedBuiltin{"==", &test_order<Order::kEqual>},
    NamedBuiltin{"eq", &test_order<Order::kEqual>},
    NamedBuiltin{"equalto", &test_order<Order::kEqual>},
    NamedBuiltin{"!=", &test_order<Order::kNotEqual>},
    NamedBuiltin{"ne", &test_order<Order::kNotEqual>},
    NamedBuiltin{">", &test_order<Order::kGreater>},
    NamedBuiltin{"gt", &test_order<Order::kGreater>},
    NamedBuiltin{"greaterthan", &test_order<Order::kGreater>},
    NamedBuiltin{">=", &test_order<Order::kGreaterEqual>},
    NamedBuiltin{"ge", &test_order<Order::kGreaterEqual>},
    NamedBuiltin{"<", &test_order<Order::kLess>},
    NamedBuiltin{"lt", &test_order<Order::kLess>},
    NamedBuiltin{"lessthan", &test_order<Order::kLess>},
    NamedBuiltin{"<=", &test_order<Order::kLessEqual>},
    NamedBuiltin{"le", &test_order<Order::kLessEqual>},
};

}  // namespace

Builtin find_test(std::string_view name) {
  const auto found = std::ranges::find(kTests, name, &NamedBuiltin::name);
  return found == kTests.end() ? nullptr : found->function;
}

}  // namespace halftone::jinja
