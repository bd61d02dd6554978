#include <array>

#include "core/log.h"
#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_print.h"
#include "text/jinja_string_methods.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

// What is no text becomes one.
Value soft_text(Run& run, const Value& value) {
  return value.text() != nullptr ? value : run.text(to_text(run, value));
}

// A filter that is the method of that name.
Value by_method(Run& run, const Value& value, const char* name, const Arguments& arguments) {
  const auto method = find_method(soft_text(run, value), name);
  return run.call(*method, arguments);
}

Value filter_trim(Run& run, const Value& value, const Arguments& arguments) {
  return by_method(run, value, "strip", arguments);
}

Value filter_upper(Run& run, const Value& value, const Arguments& arguments) {
  return by_method(run, value, "upper", arguments);
}

Value filter_lower(Run& run, const Value& value, const Arguments& arguments) {
  return by_method(run, value, "lower", arguments);
}

Value filter_capitalize(Run& run, const Value& value, const Arguments& arguments) {
  return by_method(run, value, "capitalize", arguments);
}

Value filter_title(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "title", {}, 0);
  return run.text(title_case(*soft_text(run, value).text()));
}

Value filter_center(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "center", {"width"}, 0);
  const Value width(integer_or(given[0], 80, "center"));
  return by_method(run, value, "center", {{width}, {}});
}

Value filter_replace(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "replace", {"old", "new", "count"}, 2);
  return replaced(run, Value(to_text(run, value)), to_text(run, *given[0]), to_text(run, *given[1]),
                  integer_or(given[2], -1, "replace"));
}

Value filter_string(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "string", {}, 0);
  return soft_text(run, value);
}

Value filter_safe(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "safe", {}, 0);
  return run.text(to_text(run, value), true);
}

Value filter_escape(Run& run, const Value& value, const Arguments& arguments) {
  bind(arguments, "escape", {}, 0);
  if (value.is_markup()) return value;
  const std::string text = to_text(run, value);
  run.need_room(text.size() * 5);
  return run.text(escape_html(text), true);
}

Value filter_forceescape(Run& run, const Value& value, const Arguments& arguments) {
  return filter_escape(run, run.text(to_text(run, value)), arguments);
}

Value filter_format(Run& run, const Value& value, const Arguments& arguments) {
  if (!arguments.named.empty()) {
    Dict dict;
    for (const auto& [key, item] : arguments.named) dict.set(Value(key), item);
    return format_percent(run, soft_text(run, value), run.dict(std::move(dict)));
  }
  return format_percent(run, soft_text(run, value),
                        run.list(arguments.positional, List::Kind::kTuple));
}

Value filter_join(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "join", {"d", "attribute"}, 0);
  std::vector<Value> items = run.elements(value)->items;
  for (Value& item : items) item = reach(run, item, given[1]);
  return joined(run, given[0] == nullptr ? "" : to_text(run, *given[0]), items);
}

Value filter_indent(Run& run, const Value& value, const Arguments& arguments) {
  const auto given = bind(arguments, "indent", {"width", "first", "blank"}, 0);
  const std::string* text = value.defined().text();
  if (text == nullptr) throw Fault(concat("'indent' needs a text, found ", value.type_name()));
  const bool by_text = given[0] != nullptr && given[0]->text() != nullptr;
  const int64_t width = by_text ? 0 : integer_or(given[0], 4, "indent");
  run.need_room(static_cast<size_t>(std::max<int64_t>(width, 0)));
  const std::string margin =
      by_text ? *given[0]->text()
              : std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  const bool first = given[1] != nullptr && given[1]->truthy();
  const bool blank = given[2] != nullptr && given[2]->truthy();
  const std::string with_end = *text + "\n";
  std::string out;
  bool is_first = true;
  for (const std::string_view line : split_lines(with_end, false)) {
    if (!is_first) out += '\n';
    if (is_first ? first : blank || !line.empty()) out += margin;
    out += line;
    is_first = false;
    run.need_room(out.size());
  }
  return run.text(std::move(out), value.is_markup());
}

Value filter_tojson(Run& run, const Value& value, const Arguments& arguments) {
  const auto given =
      bind(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonStyle style;
  style.ensure_ascii = given[0] != nullptr && given[0]->truthy();
  style.sort_keys = given[3] != nullptr && given[3]->truthy();
  if (given[1] != nullptr && !given[1]->is_none()) {
    if (const std::string* text = given[1]->text()) {
      style.indent = *text;
    } else {
      const int64_t width = std::max<int64_t>(integer_argument(*given[1], "tojson"), 0);
      run.need_room(static_cast<size_t>(width));
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
    style.item_separator = ",";
  }
  if (given[2] != nullptr && !given[2]->is_none()) {
    const ListPtr separators = run.elements(*given[2]);
    if (separators->items.size() != 2) throw Fault("'tojson' needs two separators");
    style.item_separator = text_argument(separators->items[0], "tojson");
    style.key_separator = text_argument(separators->items[1], "tojson");
  }
  return run.text(to_json(run, value, style));
}

constexpr std::array kFilters = {
    NamedBuiltin{"trim", &filter_trim},       NamedBuiltin{"upper", &filter_upper},
    NamedBuiltin{"lower", &filter_lower},     NamedBuiltin{"capitalize", &filter_capitalize},
    NamedBuiltin{"title", &filter_title},     NamedBuiltin{"center", &filter_center},
    NamedBuiltin{"replace", &filter_replace}, NamedBuiltin{"string", &filter_string},
    NamedBuiltin{"safe", &filter_safe},       NamedBuiltin{"escape", &filter_escape},
    NamedBuiltin{"e", &filter_escape},        NamedBuiltin{"forceescape", &filter_forceescape},
    NamedBuiltin{"format", &filter_format},   NamedBuiltin{"join", &filter_join},
    NamedBuiltin{"indent", &filter_indent},   NamedBuiltin{"tojson", &filter_tojson},
};

}  // namespace

std::span<const NamedBuiltin> text_filters() {
  return kFilters;
}

}  // namespace halftone::jinja
