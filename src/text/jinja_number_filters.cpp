#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "core/log.h"
#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_string_methods.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

// The digits of a number's text as Python reads them: white space and underscores dropped.
std::optional<std::string> digits_of(const std::string& text) {
  std::string digits(strip(text, std::nullopt, Ends::kBoth));
  if (digits.starts_with('_') || digits.ends_with('_') || digits.find("__") != std::string::npos) {
    return std::nullopt;
  }
  std::erase(digits, '_');
  if (digits.starts_with('+') && !digits.starts_with("+-")) digits.erase(0, 1);
  return digits;
}

std::optional<double> parse_real(const std::string& text) {
  const auto digits = digits_of(text);
  if (!digits || digits->empty()) return std::nullopt;
  double value = 0;
  const auto end = std::from_chars(digits->data(), digits->data() + digits->size(), value);
  if (end.ptr != digits->data() + digits->size()) return std::nullopt;
  if (end.ec == std::errc::result_out_of_range) return std::strtod(digits->c_str(), nullptr);
  return end.ec == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> parse_whole(const std::string& text, int64_t base) {
  const auto read = digits_of(text);
  if (!read || read->empty()) return std::nullopt;
  std::string digits = *read;
  const char prefix = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : '\0';
  const size_t first = digits[0] == '-' ? 1 : 0;
  if (prefix != '\0' && digits.size() > first + 1 && digits[first] == '0' &&
      (digits[first + 1] | 0x20) == prefix) {
    digits = digits.substr(0, first) + digits.substr(first + 2);
  }
  int64_t value = 0;
  const char* const end = digits.data() + digits.size();
  const auto found = std::from_chars(digits.data(), end, value, static_cast<int>(base));
  if (found.ec == std::errc::result_out_of_range) throw Fault("an integer beyond 64 bits");
  if (found.ec != std::errc() || found.ptr != end) return std::nullopt;
  return value;
}

std::optional<Value> truncated(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (std::abs(value) >= 9.2e18) throw Fault("an integer beyond 64 bits");
  return Value(static_cast<int64_t>(value));
}

Value filter_int(Run& /*run*/, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "int", {"default", "base"}, 0);
  const int64_t base = integer_or(given[1], 10, "int");
  if (base < 2 || base > 36) throw Fault("'int' needs a base from 2 to 36");
  const Value fallback = given[0] != nullptr ? *given[0] : Value(int64_t{0});
  if (const std::string* text = value.defined().text()) {
    if (const auto whole = parse_whole(*text, base)) return Value(*whole);
    const auto real = parse_real(*text);
    return real ? truncated(*real).value_or(fallback) : fallback;
  }
  if (value.integer()) return Value(*value.integer());
  return value.number() ? truncated(*value.number()).value_or(fallback) : fallback;
}

Value filter_float(Run& /*run*/, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "float", {"default"}, 0);
  const std::string* text = value.defined().text();
  const auto number = text != nullptr ? parse_real(*text) : value.number();
  if (number) return Value(*number);
  return given[0] != nullptr ? *given[0] : Value(0.0);
}

Value filter_abs(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "abs", {}, 0);
  if (value.is_float()) return Value(std::abs(*value.number()));
  const Value zero(int64_t{0});
  return arithmetic(run, *value.integer() < 0 ? "-" : "+", zero, value);
}

Value filter_round(Run& /*run*/, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "round", {"precision", "method"}, 0);
  const int64_t precision = integer_or(given[0], 0, "round");
  const std::string method = given[1] != nullptr ? text_argument(*given[1], "round") : "common";
  if (method != "common" && method != "ceil" && method != "floor") {
    throw Fault(concat("'round' knows common, ceil and floor, found '", method, "'"));
  }
  if (precision < -300 || precision > 300) throw Fault("'round' with more than 300 digits");
  const double number = *value.number();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value(std::ceil(number * scale) / scale);
  if (method == "floor") return Value(std::floor(number * scale) / scale);
  if (value.integer() && precision >= 0) return Value(*value.integer());
  if (precision < 0) {
    const double rounded = std::nearbyint(number * scale) / scale;
    return value.integer() ? *truncated(rounded) : Value(rounded);
  }
  // The exact value decides, as in Python.
  std::array<char, 700> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(precision), number);
  return Value(std::strtod(buffer.data(), nullptr));
}

template <Builtin kFilter>
Value of_number(Run& run, const Value& value, const Arguments& arguments) {
  if (!value.defined().number())
    throw Fault(concat("expected a number, found ", value.type_name()));
  return kFilter(run, value, arguments);
}

Value filter_sum(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "sum", {"attribute", "start"}, 0);
  Value sum = given[1] != nullptr ? *given[1] : Value(int64_t{0});
  const ListPtr items = run.elements(value);
  for (const Value& item : items->items) {
    sum = arithmetic(run, "+", sum, reach(run, item, given[0]));
  }
  return sum;
}

template <bool kLargest>
Value filter_extreme(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "min", {"case_sensitive", "attribute"}, 0);
  const bool cases = given[0] != nullptr && given[0]->truthy();
  const Value* best = nullptr;
  Value best_key;
  const ListPtr items = run.elements(value);
  for (const Value& item : items->items) {
    Value key = sort_key(run, reach(run, item, given[1]), cases);
    const bool better =
        best == nullptr || (kLargest ? less(run, best_key, key) : less(run, key, best_key));
    if (!better) continue;
    best = &item;
    best_key = std::move(key);
  }
  return best != nullptr ? *best
                         : Value::undefined("an empty list has no largest and no least item");
}

constexpr std::array kFilters = {
    NamedBuiltin{"int", &filter_int},
    NamedBuiltin{"float", &filter_float},
    NamedBuiltin{"abs", &of_number<&filter_abs>},
    NamedBuiltin{"round", &of_number<&filter_round>},
    NamedBuiltin{"sum", &filter_sum},
    NamedBuiltin{"min", &filter_extreme<false>},
    NamedBuiltin{"max", &filter_extreme<true>},
};

}  // namespace

std::span<const NamedBuiltin> number_filters() {
  return kFilters;
}

}  // namespace halftone::jinja
