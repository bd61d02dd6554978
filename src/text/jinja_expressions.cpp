#include "core/log.h"
#include "text/jinja_nodes.h"
#include "text/jinja_operators.h"
#include "text/jinja_print.h"

namespace halftone::jinja {

Value Literal::evaluate(Run& run, const ScopePtr& /*scope*/) const {
  run.step();
  return value;
}

Value Name::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  Value found = run.lookup(*scope, name, spelling);
  if (!found.is_undefined()) return found;
  const Builtin global = find_global(spelling);
  return global == nullptr
             ? found
             : Value(CallablePtr(std::make_shared<const BoundBuiltin>(global, Value())));
}

Value Sequence::evaluate(Run& run, const ScopePtr& scope) const {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const auto& item : items) values.push_back(item->evaluate(run, scope));
  return run.list(std::move(values), kind);
}

Value DictLiteral::evaluate(Run& run, const ScopePtr& scope) const {
  Dict dict;
  for (const auto& [key, value] : items) {
    const Value name = key->evaluate(run, scope);
    dict.set(name, value->evaluate(run, scope));
  }
  return run.dict(std::move(dict));
}

Value Unary::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  const Value value = operand->evaluate(run, scope);
  if (op == '!') return Value(!value.truthy());
  if (!value.defined().number()) {
    throw Fault(concat("'", std::string(1, op), "' is not for '", value.type_name(), "'"), line);
  }
  if (value.is_float()) return Value(op == '-' ? -*value.number() : *value.number());
  const Value zero(int64_t{0});
  return arithmetic(run, std::string_view(&op, 1), zero, value);
}

Value Arithmetic::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  const Value a = left->evaluate(run, scope);
  const Value b = right->evaluate(run, scope);
  run.line = line;
  return arithmetic(run, op, a, b);
}

Value Logic::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  Value value;
  for (const auto& operand : operands) {
    value = operand->evaluate(run, scope);
    if (value.truthy() == is_or) break;
  }
  return value;
}

Value Concatenation::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  std::string out;
  for (const auto& part : parts) {
    const Value value = part->evaluate(run, scope);
    run.line = line;
    run.need_room(out.size() + (value.text() != nullptr ? value.text()->size() : 0));
    out += to_text(run, value);
  }
  return run.text(std::move(out));
}

Value Comparison::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  Value left = first->evaluate(run, scope);
  for (const auto& [op, operand] : rest) {
    Value right = operand->evaluate(run, scope);
    run.line = line;
    if (!compare(run, op, left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Conditional::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  if (condition->evaluate(run, scope).truthy()) return chosen->evaluate(run, scope);
  if (otherwise != nullptr) return otherwise->evaluate(run, scope);
  return Value::undefined("an inline if without else, whose condition is false, has no value");
}

Value Attribute::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  const Value value = object->evaluate(run, scope);
  run.line = line;
  return get_attribute(run, value, name);
}

Value Item::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  const Value value = object->evaluate(run, scope);
  const Value at = key->evaluate(run, scope);
  run.line = line;
  return get_item(run, value, at);
}

Value Slice::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  const Value value = object->evaluate(run, scope);
  Value bounds[3];
  const Value* given[3] = {};
  for (int i = 0; i < 3; ++i) {
    if (parts[i] == nullptr) continue;
    bounds[i] = parts[i]->evaluate(run, scope);
    given[i] = &bounds[i];
  }
  run.line = line;
  return get_slice(run, value, given[0], given[1], given[2]);
}

Arguments CallArguments::evaluate(Run& run, const ScopePtr& scope) const {
  Arguments arguments;
  for (const auto& value : positional) {
    arguments.positional.push_back(value->evaluate(run, scope));
  }
  if (more_positional != nullptr) {
    const ListPtr more = run.elements(more_positional->evaluate(run, scope));
    run.step(static_cast<int64_t>(more->items.size()));
    for (const Value& value : more->items) arguments.positional.push_back(value);
  }
  for (const auto& [name, value] : named) {
    arguments.named.emplace_back(name, value->evaluate(run, scope));
  }
  if (more_named == nullptr) return arguments;
  const Value more = more_named->evaluate(run, scope);
  if (more.dict() == nullptr) throw Fault(concat("'**' needs a dict, found ", more.type_name()));
  run.step(static_cast<int64_t>(more.dict()->items().size()));
  for (const auto& [key, value] : more.dict()->items()) {
    if (key.text() == nullptr) throw Fault("'**' needs texts as keys");
    arguments.named.emplace_back(*key.text(), value);
  }
  return arguments;
}

Value Call::evaluate(Run& run, const ScopePtr& scope) const {
  return call(run, scope, nullptr);
}

Value Call::call(Run& run, const ScopePtr& scope, const Value* caller) const {
  run.step();
  const Value callee = function->evaluate(run, scope);
  Arguments values = arguments.evaluate(run, scope);
  if (caller != nullptr) values.named.emplace_back("caller", *caller);
  run.line = line;
  return run.call(callee, values);
}

Value FilterCall::evaluate(Run& run, const ScopePtr& scope) const {
  return apply(run, scope, Value());
}

Value FilterCall::apply(Run& run, const ScopePtr& scope, const Value& block) const {
  run.step();
  const auto* chained = dynamic_cast<const FilterCall*>(input.get());
  const Value value = input == nullptr     ? block
                      : chained != nullptr ? chained->apply(run, scope, block)
                                           : input->evaluate(run, scope);
  const Arguments values = arguments.evaluate(run, scope);
  run.line = line;
  const Builtin filter = find_filter(name);
  if (filter == nullptr) throw Fault(concat("there is no filter '", name, "'"));
  return filter(run, value, values);
}

Value TestCall::evaluate(Run& run, const ScopePtr& scope) const {
  run.step();
  const Value value = input->evaluate(run, scope);
  const Arguments values = arguments.evaluate(run, scope);
  run.line = line;
  const Builtin test = find_test(name);
  if (test == nullptr) throw Fault(concat("there is no test '", name, "'"));
  return Value(test(run, value, values).truthy() != negated);
}

}  // namespace halftone::jinja
