#include <algorithm>
#include <array>
#include <ctime>

#include "core/log.h"
#include "text/jinja_print.h"
#include "text/jinja_string_methods.h"

namespace halftone::jinja {
namespace {

Value global_range(Run& run, const Value& /*self*/, const Arguments& arguments) {
  const auto given = bind(arguments, "range", {"start", "stop", "step"}, 1);
  const bool only_stop = given[1] == nullptr;
  int64_t at = only_stop ? 0 : integer_argument(*given[0], "range");
  const int64_t stop = integer_argument(only_stop ? *given[0] : *given[1], "range");
  const int64_t step = integer_or(given[2], 1, "range");
  if (step == 0) throw Fault("'range' with step 0");
  std::vector<Value> items;
  while (step > 0 ? at < stop : at > stop) {
    if (static_cast<int64_t>(items.size()) >= run.limits().range) {
      throw Fault(concat("'range' of more than ", run.limits().range, " numbers"));
    }
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return run.list(std::move(items), List::Kind::kRange);
}

// A dict, or pairs, then named values.
Dict dict_of(Run& run, const Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1) throw Fault("expected one dict, found several values");
  for (const Value& base : arguments.positional) {
    if (base.dict() != nullptr) {
      dict = *base.dict();
      continue;
    }
    const ListPtr pairs = run.elements(base.defined());
    for (const Value& pair : pairs->items) {
      const ListPtr parts = run.elements(pair);
      if (parts->items.size() != 2) throw Fault("a dict is made of pairs");
      dict.set(parts->items[0], parts->items[1]);
    }
  }
  for (const auto& [key, value] : arguments.named) dict.set(Value(key), value);
  return dict;
}

Value global_dict(Run& run, const Value& /*self*/, const Arguments& arguments) {
  return run.dict(dict_of(run, arguments));
}

Value global_namespace(Run& run, const Value& /*self*/, const Arguments& arguments) {
  return Value(run.make_namespace(dict_of(run, arguments)));
}

Value global_raise(Run& run, const Value& /*self*/, const Arguments& arguments) {
  const auto given = bind(arguments, "raise_exception", {"message"}, 1);
  throw Fault(concat("the template refuses: ", to_text(run, *given[0])));
}

Value global_strftime(Run& run, const Value& /*self*/, const Arguments& arguments) {
  const auto given = bind(arguments, "strftime_now", {"format"}, 1);
  const std::string& format = text_argument(*given[0], "strftime_now");
  if (format.empty()) return run.text("");
  const std::tm now = run.now();
  std::string out(1024, '\0');
  const size_t length = std::strftime(out.data(), out.size(), format.c_str(), &now);
  if (length == 0) throw Fault("'strftime_now' with a format that is too long");
  out.resize(length);
  return run.text(std::move(out));
}

constexpr std::array kGlobals = {
    NamedBuiltin{"range", &global_range},           NamedBuiltin{"dict", &global_dict},
    NamedBuiltin{"namespace", &global_namespace},   NamedBuiltin{"raise_exception", &global_raise},
    NamedBuiltin{"strftime_now", &global_strftime},
};

}  // namespace

Builtin find_global(std::string_view name) {
  const auto found = std::ranges::find(kGlobals, name, &NamedBuiltin::name);
  return found == kGlobals.end() ? nullptr : found->function;
}

}  // namespace halftone::jinja
