#pragma once

#include <span>

#include "text/jinja_runtime.h"

namespace halftone::jinja {

// The filters by what they work on; find_filter() looks through all.
std::span<const NamedBuiltin> text_filters();
std::span<const NamedBuiltin> number_filters();
std::span<const NamedBuiltin> list_filters();
std::span<const NamedBuiltin> choosing_filters();

// What `attribute='a.0.b'` of filters reaches in an item; null: the item. What is undefined on the
// way is `fallback`, if there is one.
Value reach(Run& run, const Value& item, const Value* attribute, const Value* fallback = nullptr);
// Texts in lower case unless cases count.
Value sort_key(Run& run, const Value& value, bool case_sensitive);

}  // namespace halftone::jinja
