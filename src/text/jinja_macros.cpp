#include <algorithm>

#include "core/log.h"
#include "text/jinja_nodes.h"

namespace halftone::jinja {
namespace {

// The run keeps the scope, the template keeps the macro.
struct MacroValue : Callable {
  MacroValue(const Macro& macro_, std::weak_ptr<Scope> scope_)
      : macro(macro_), scope(std::move(scope_)) {}
  Value call(Run& run, const Arguments& arguments) const override {
    return macro.call(run, scope.lock(), arguments);
  }
  const Macro& macro;
  std::weak_ptr<Scope> scope;
};

}  // namespace

Value Macro::make(Run& run, const ScopePtr& scope) const {
  run.keep_scope(scope);
  return Value(CallablePtr(std::make_shared<MacroValue>(*this, scope)));
}

Flow Macro::execute(Run& run, const ScopePtr& scope) const {
  scope->set(name, make(run, scope));
  return Flow::kNext;
}

Value Macro::call(Run& run, const ScopePtr& scope, const Arguments& arguments) const {
  const Run::Nested nested(run, height);
  const int called_from = run.line;
  const auto inner = std::make_shared<Scope>(scope);
  const auto named = [&](const std::string& key) -> const Value* {
    const auto found =
        std::ranges::find(arguments.named, key, [](const auto& item) { return item.first; });
    return found == arguments.named.end() ? nullptr : &found->second;
  };
  take_rest(run, *inner, arguments);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& parameter = parameters[i];
    const Value* given = named(parameter.spelling);
    if (given != nullptr && i < arguments.positional.size()) {
      throw Fault(concat("macro '", spelling, "' is given '", parameter.spelling, "' twice"));
    }
    if (i < arguments.positional.size()) given = &arguments.positional[i];
    if (given != nullptr) {
      inner->set(parameter.name, *given);
    } else if (parameter.fallback != nullptr) {
      inner->set(parameter.name, parameter.fallback->evaluate(run, inner));
    } else {
      inner->set(parameter.name,
                 Value::undefined(concat("the parameter '", parameter.spelling, "' of macro '",
                                         spelling, "' is not given")));
    }
  }
  Value text = run.capture([&] { execute_body(body, run, inner); });
  run.line = called_from;
  return text;
}

// What no parameter takes goes to varargs, kwargs and caller, if the body names them.
void Macro::take_rest(Run& run, Scope& inner, const Arguments& arguments) const {
  const size_t taken = std::min(arguments.positional.size(), parameters.size());
  if (varargs >= 0) {
    std::vector<Value> rest(arguments.positional.begin() + static_cast<ptrdiff_t>(taken),
                            arguments.positional.end());
    inner.set(varargs, run.list(std::move(rest), List::Kind::kTuple));
  } else if (taken < arguments.positional.size()) {
    throw Fault(concat("macro '", spelling, "' takes at most ", parameters.size(),
                       " argument(s), found ", arguments.positional.size()));
  }
  Dict rest;
  if (caller >= 0) inner.set(caller, Value::undefined("no caller is given"));
  for (const auto& [key, value] : arguments.named) {
    if (std::ranges::find(parameters, key, &Parameter::spelling) != parameters.end()) continue;
    if (caller >= 0 && key == "caller") {
      inner.set(caller, value);
    } else if (kwargs >= 0) {
      rest.set(Value(key), value);
    } else {
      throw Fault(concat("macro '", spelling, "' does not take the argument '", key, "'"));
    }
  }
  if (kwargs >= 0) inner.set(kwargs, run.dict(std::move(rest)));
}

Flow CallBlock::execute(Run& run, const ScopePtr& scope) const {
  const Value caller = macro->make(run, scope);
  run.write(call->call(run, scope, &caller));
  return Flow::kNext;
}

}  // namespace halftone::jinja
