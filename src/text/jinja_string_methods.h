#pragma once

#include <span>

#include "text/jinja_runtime.h"

namespace halftone::jinja {

// Methods of Python's str that change case and ends or take texts apart, and those that look into
// them or fill them in.
std::span<const NamedBuiltin> shaping_methods();
std::span<const NamedBuiltin> searching_methods();

// Those also serve filters.
Value replaced(Run& run, const Value& self, const std::string& old, const std::string& replacement,
               int64_t count);
Value joined(Run& run, const std::string& separator, const std::vector<Value>& items);
std::string title_case(std::string_view text);

// An argument as a text or an integer; a Fault that names the function for anything else.
const std::string& text_argument(const Value& value, std::string_view function);
int64_t integer_argument(const Value& value, std::string_view function);
int64_t integer_or(const Value* value, int64_t fallback, std::string_view function);

}  // namespace halftone::jinja
