#include <cmath>

#include "core/log.h"
#include "text/jinja_operators.h"
#include "text/jinja_print.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

[[noreturn]] void refuse(std::string_view op, const Value& left, const Value& right) {
  throw Fault(concat("'", op, "' is not for '", left.defined().type_name(), "' and '",
                     right.defined().type_name(), "'"));
}

[[noreturn]] void overflow() {
  throw Fault("an integer beyond 64 bits");
}

int64_t whole_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return result;
}

int64_t whole_quotient(int64_t left, int64_t right) {
  if (left == INT64_MIN && right == -1) overflow();
  const int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

Value whole(std::string_view op, int64_t left, int64_t right) {
  int64_t result = 0;
  bool too_large = false;
  if (op == "+") {
    too_large = __builtin_add_overflow(left, right, &result);
  } else if (op == "-") {
    too_large = __builtin_sub_overflow(left, right, &result);
  } else if (op == "*") {
    too_large = __builtin_mul_overflow(left, right, &result);
  } else if (op == "**") {
    result = whole_power(left, right);
  } else {
    const int64_t quotient = whole_quotient(left, right);
    result = op == "//" ? quotient : left - quotient * right;
  }
  if (too_large) overflow();
  return Value(result);
}

double modulo(double left, double right) {
  const double rest = std::fmod(left, right);
  if (rest == 0) return std::copysign(0.0, right);
  return (rest < 0) != (right < 0) ? rest + right : rest;
}

// As Python: the quotient that belongs to the modulo, not the rounded left / right.
double floor_quotient(double left, double right) {
  const double quotient = (left - modulo(left, right)) / right;
  if (quotient == 0) return std::copysign(0.0, left / right);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

Value real(std::string_view op, double left, double right) {
  if (op == "+") return Value(left + right);
  if (op == "-") return Value(left - right);
  if (op == "*") return Value(left * right);
  if (op == "/") return Value(left / right);
  if (op == "**") {
    const double result = std::pow(left, right);
    const bool fits = std::isfinite(result) || !std::isfinite(left) || !std::isfinite(right);
    if (!fits) throw Fault("a power that no number holds");
    return Value(result);
  }
  return op == "//" ? Value(floor_quotient(left, right)) : Value(modulo(left, right));
}

Value numbers(std::string_view op, const Value& left, const Value& right) {
  const bool divides = op == "/" || op == "//" || op == "%";
  if (divides && *right.number() == 0) throw Fault(concat("'", op, "' by zero"));
  const auto a = left.integer();
  const auto b = right.integer();
  const bool stays_whole = op != "/" && (op != "**" || (b && *b >= 0));
  if (a && b && stays_whole) return whole(op, *a, *b);
  return real(op, *left.number(), *right.number());
}

Value add_texts(Run& run, const Value& left, const Value& right) {
  const bool markup = left.is_markup() || right.is_markup();
  const auto part = [&](const Value& value) {
    return markup && !value.is_markup() ? escape_html(*value.text()) : *value.text();
  };
  run.need_room(left.text()->size() + right.text()->size());
  return run.text(part(left) + part(right), markup);
}

Value add_lists(Run& run, const Value& left, const Value& right) {
  std::vector<Value> items = left.list()->items;
  const auto& more = right.list()->items;
  run.charge((items.size() + more.size()) * sizeof(Value));
  items.insert(items.end(), more.begin(), more.end());
  return run.list(std::move(items), left.list()->kind);
}

Value repeat(Run& run, const Value& value, int64_t count) {
  const uint64_t times = static_cast<uint64_t>(std::max<int64_t>(count, 0));
  const size_t size =
      value.text() != nullptr ? value.text()->size() : value.list()->items.size() * sizeof(Value);
  size_t total = 0;
  if (__builtin_mul_overflow(size, times, &total)) total = INT64_MAX;
  run.need_room(std::min<size_t>(total, INT64_MAX));
  if (value.text() != nullptr) {
    std::string out;
    if (size > 0) {
      out.reserve(total);
      for (uint64_t i = 0; i < times; ++i) out += *value.text();
    }
    return run.text(std::move(out), value.is_markup());
  }
  std::vector<Value> items;
  for (uint64_t i = 0; i < times && size > 0; ++i) {
    items.insert(items.end(), value.list()->items.begin(), value.list()->items.end());
  }
  return run.list(std::move(items), value.list()->kind);
}

bool can_repeat(const Value& value) {
  return value.text() != nullptr ||
         (value.list() != nullptr && value.list()->kind <= List::Kind::kTuple);
}

}  // namespace

Value arithmetic(Run& run, std::string_view op, const Value& left, const Value& right) {
  if (left.number() && right.number()) return numbers(op, left, right);
  if (op == "%" && left.text() != nullptr) return format_percent(run, left, right);
  if (op == "+" && left.text() != nullptr && right.text() != nullptr) {
    return add_texts(run, left, right);
  }
  const bool lists = left.list() != nullptr && right.list() != nullptr;
  if (op == "+" && lists && left.list()->kind == right.list()->kind && can_repeat(left)) {
    return add_lists(run, left, right);
  }
  if (op == "*" && can_repeat(left) && right.integer()) return repeat(run, left, *right.integer());
  if (op == "*" && can_repeat(right) && left.integer()) return repeat(run, right, *left.integer());
  refuse(op, left, right);
}

}  // namespace halftone::jinja
