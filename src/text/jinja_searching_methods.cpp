#include <algorithm>
#include <array>

#include "core/log.h"
#include "text/jinja_operators.h"
#include "text/jinja_print.h"
#include "text/jinja_string_methods.h"
#include "text/jinja_text.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace halftone::jinja {

const std::string& text_argument(const Value& value, std::string_view function) {
  const std::string* text = value.defined().text();
  if (text == nullptr) {
    throw Fault(concat("'", function, "' needs a text, found ", value.type_name()));
  }
  return *text;
}

int64_t integer_argument(const Value& value, std::string_view function) {
  const auto integer = value.defined().integer();
  if (!integer) {
    throw Fault(concat("'", function, "' needs an integer, found ", value.type_name()));
  }
  return *integer;
}

int64_t integer_or(const Value* value, int64_t fallback, std::string_view function) {
  return value == nullptr || value->is_none() ? fallback : integer_argument(*value, function);
}

Value replaced(Run& run, const Value& self, const std::string& old, const std::string& replacement,
               int64_t count) {
  const std::string& text = *self.text();
  run.step(static_cast<int64_t>(text.size()) / kBytesPerStep);
  std::string out;
  size_t at = 0;
  if (old.empty()) {
    const auto offsets = code_point_offsets(text);
    for (size_t i = 0; i < offsets.size() && count != 0; ++i, --count) {
      out.append(text, at, offsets[i] - at);
      out += replacement;
      at = offsets[i];
      run.need_room(out.size());
    }
    return run.text(out + text.substr(at), self.is_markup());
  }
  for (size_t found = find_text(text, old); found != std::string::npos && count != 0; --count) {
    out.append(text, at, found - at);
    out += replacement;
    at = found + old.size();
    run.need_room(out.size());
    found = find_text(text, old, at);
  }
  return run.text(out + text.substr(at), self.is_markup());
}

Value joined(Run& run, const std::string& separator, const std::vector<Value>& items) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += separator;
    out += to_text(run, items[i]);
    run.need_room(out.size());
  }
  return run.text(std::move(out));
}

namespace {

Value method_replace(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "replace", {"old", "new", "count"}, 2);
  const std::string& replacement = text_argument(*given[1], "replace");
  const bool escapes = self.is_markup() && !given[1]->is_markup();
  return replaced(run, self, text_argument(*given[0], "replace"),
                  escapes ? escape_html(replacement) : replacement,
                  integer_or(given[2], -1, "replace"));
}

Value method_join(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "join", {"iterable"}, 1);
  const ListPtr items = run.elements(given[0]->defined());
  for (const Value& item : items->items) text_argument(item, "join");
  return joined(run, *self.text(), items->items);
}

template <bool kStart>
Value method_affix(Run& run, const Value& self, const Arguments& arguments) {
  const auto given =
      bind(arguments, kStart ? "startswith" : "endswith", {"part", "start", "end"}, 1);
  const Value part_of = given[1] == nullptr && given[2] == nullptr
                            ? self
                            : get_slice(run, self, given[1], given[2], nullptr);
  const std::string& text = *part_of.text();
  const auto fits = [&](const Value& part) {
    const std::string& affix = text_argument(part, kStart ? "startswith" : "endswith");
    return kStart ? text.starts_with(affix) : text.ends_with(affix);
  };
  const List* several = given[0]->list();
  if (several == nullptr) return Value(fits(*given[0]));
  if (several->kind != List::Kind::kTuple) throw Fault("expected a text or a tuple, found a list");
  run.step(static_cast<int64_t>(several->items.size()));
  return Value(std::ranges::any_of(several->items, fits));
}

// Code points before the part; -1 without it.
template <bool kFromEnd>
int64_t find_part(Run& run, const Value& self, const Arguments& arguments, const char* name) {
  const auto given = bind(arguments, name, {"sub", "start", "end"}, 1);
  const std::string& part = text_argument(*given[0], name);
  const std::string& whole = *self.text();
  const std::vector<size_t> offsets = code_point_offsets(whole);
  const auto length = static_cast<int64_t>(offsets.size()) - 1;
  const auto bound = [&](const Value* value, int64_t fallback) {
    const int64_t at = integer_or(value, fallback, name);
    return at < 0 ? std::max<int64_t>(at < -length ? 0 : at + length, 0) : at;
  };
  const int64_t start = bound(given[1], 0);
  const int64_t end = std::min(bound(given[2], length), length);
  if (start > end) return -1;
  run.step(static_cast<int64_t>(whole.size() * (kFromEnd ? part.size() + 1 : 1)) / kBytesPerStep);
  const size_t first = offsets[static_cast<size_t>(start)];
  const std::string_view text =
      std::string_view(whole).substr(first, offsets[static_cast<size_t>(end)] - first);
  const size_t found = kFromEnd ? text.rfind(part) : find_text(text, part);
  if (found == std::string_view::npos) return -1;
  return start + static_cast<int64_t>(code_points(text.substr(0, found)));
}

template <bool kFromEnd>
Value method_find(Run& run, const Value& self, const Arguments& arguments) {
  return Value(find_part<kFromEnd>(run, self, arguments, "find"));
}

template <bool kFromEnd>
Value method_index(Run& run, const Value& self, const Arguments& arguments) {
  const int64_t found = find_part<kFromEnd>(run, self, arguments, "index");
  if (found < 0) throw Fault("'index' does not find the text");
  return Value(found);
}

Value method_count(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "count", {"sub"}, 1);
  const std::string& text = *self.text();
  const std::string& part = text_argument(*given[0], "count");
  run.step(static_cast<int64_t>(text.size()) / kBytesPerStep);
  if (part.empty()) return Value(static_cast<int64_t>(code_points(text)) + 1);
  int64_t count = 0;
  for (size_t at = find_text(text, part); at != std::string::npos;
       at = find_text(text, part, at + part.size())) {
    ++count;
  }
  return Value(count);
}

// A text with letters that have a case, all in the one.
template <bool kUpper>
Value method_has_case(Run& run, const Value& self, const Arguments& arguments) {
  bind(arguments, kUpper ? "isupper" : "islower", {}, 0);
  const std::string& text = *self.text();
  run.need_room(text.size() * 3);
  const std::string upper = upper_case(text);
  const std::string lower = lower_case(text);
  return Value(upper != lower && text == (kUpper ? upper : lower));
}

bool is_alpha(char32_t code) {
  const char32_t lower = code | 0x20U;
  return code < 0x80 ? lower >= 'a' && lower <= 'z' : is_letter(code);
}

NumericType number_kind(char32_t code) {
  if (code >= 0x80) return numeric_type(code);
  return code >= '0' && code <= '9' ? NumericType::kDecimal : NumericType::kNone;
}

bool is_decimal(char32_t code) {
  return number_kind(code) == NumericType::kDecimal;
}

bool is_digit(char32_t code) {
  return is_decimal(code) || number_kind(code) == NumericType::kDigit;
}

bool is_numeric(char32_t code) {
  return number_kind(code) != NumericType::kNone;
}

bool is_alnum(char32_t code) {
  return is_alpha(code) || is_numeric(code);
}

template <bool (*kIs)(char32_t)>
Value method_class(Run& /*run*/, const Value& self, const Arguments& arguments) {
  bind(arguments, "a class of characters", {}, 0);
  const std::string& text = *self.text();
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_char_at(text, at);
    if (!kIs(c.code)) return Value(false);
    at += c.bytes;
  }
  return Value(!text.empty());
}

Value method_format(Run& run, const Value& self, const Arguments& arguments) {
  return format_braces(run, self, arguments);
}

constexpr std::array kMethods = {
    NamedBuiltin{"replace", &method_replace},
    NamedBuiltin{"join", &method_join},
    NamedBuiltin{"startswith", &method_affix<true>},
    NamedBuiltin{"endswith", &method_affix<false>},
    NamedBuiltin{"find", &method_find<false>},
    NamedBuiltin{"rfind", &method_find<true>},
    NamedBuiltin{"index", &method_index<false>},
    NamedBuiltin{"rindex", &method_index<true>},
    NamedBuiltin{"count", &method_count},
    NamedBuiltin{"isupper", &method_has_case<true>},
    NamedBuiltin{"islower", &method_has_case<false>},
    NamedBuiltin{"isdigit", &method_class<&is_digit>},
    NamedBuiltin{"isdecimal", &method_class<&is_decimal>},
    NamedBuiltin{"isnumeric", &method_class<&is_numeric>},
    NamedBuiltin{"isalpha", &method_class<&is_alpha>},
    NamedBuiltin{"isalnum", &method_class<&is_alnum>},
    NamedBuiltin{"isspace", &method_class<&is_python_space>},
    NamedBuiltin{"format", &method_format},
};

}  // namespace

std::span<const NamedBuiltin> searching_methods() {
  return kMethods;
}

}  // namespace halftone::jinja
