#pragma once

#include <string>

#include "text/jinja_runtime.h"

namespace halftone::jinja {

// Python's str() and repr(). What has no text of its own (functions, generators) is a Fault.
std::string to_text(Run& run, const Value& value);
std::string to_repr(Run& run, const Value& value);
// "1.0", "1e+16", "nan": the shortest digits that give the number back.
std::string float_text(double value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // of one level; all on one line without it
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
// Python's json.dumps.
std::string to_json(Run& run, const Value& value, const JsonStyle& style);

}  // namespace halftone::jinja
