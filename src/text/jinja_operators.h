#pragma once

#include <string_view>

#include "text/jinja_runtime.h"

// Python's operators over values. Operands that they are not for are Faults.
namespace halftone::jinja {

// + - * / // % **
Value arithmetic(Run& run, std::string_view op, const Value& left, const Value& right);
// "..." % value
Value format_percent(Run& run, const Value& format, const Value& value);
// "...".format(...)
Value format_braces(Run& run, const Value& format, const Arguments& arguments);

bool equal(Run& run, const Value& left, const Value& right);
// == != < <= > >= in, not in
bool compare(Run& run, std::string_view op, const Value& left, const Value& right);
// Less than; of numbers, of texts and of lists of these.
bool less(Run& run, const Value& left, const Value& right);
bool contains(Run& run, const Value& container, const Value& value);

// object.name and object[key]: undefined where there is no such thing.
Value get_attribute(Run& run, const Value& object, std::string_view name);
Value get_item(Run& run, const Value& object, const Value& key);
// Each part may be null.
Value get_slice(Run& run, const Value& object, const Value* start, const Value* stop,
                const Value* step);

}  // namespace halftone::jinja
