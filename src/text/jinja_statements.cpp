#include "core/log.h"
#include "text/jinja_nodes.h"
#include "text/jinja_operators.h"

namespace halftone::jinja {

Flow execute_body(const Body& body, Run& run, const ScopePtr& scope) {
  for (const auto& statement : body) {
    run.line = statement->line;
    run.step();
    const Flow flow = statement->execute(run, scope);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

void Target::assign(Run& run, const ScopePtr& scope, const Value& value) const {
  if (!attribute.empty()) {
    Namespace* space = run.lookup(*scope, name, spelling).space();
    if (space == nullptr) throw Fault(concat("'", spelling, "' is no namespace"));
    run.charge(4 * sizeof(Value));
    space->attributes.set(Value(attribute), value);
    return;
  }
  if (name >= 0) return scope->set(name, value);
  const ListPtr values = run.elements(value.defined());
  if (values->items.size() != parts.size()) {
    throw Fault(
        concat("expected ", parts.size(), " values to unpack, found ", values->items.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) parts[i].assign(run, scope, values->items[i]);
}

Flow Data::execute(Run& run, const ScopePtr& /*scope*/) const {
  run.write(std::string_view(text));
  return Flow::kNext;
}

Flow Print::execute(Run& run, const ScopePtr& scope) const {
  const Value result = value->evaluate(run, scope);
  run.line = line;
  run.write(result);
  return Flow::kNext;
}

Flow If::execute(Run& run, const ScopePtr& scope) const {
  for (const auto& [condition, body] : branches) {
    if (condition->evaluate(run, scope).truthy()) return execute_body(body, run, scope);
  }
  return execute_body(otherwise, run, scope);
}

Flow For::execute(Run& run, const ScopePtr& scope) const {
  run_over(run, scope, iterable->evaluate(run, scope), 0);
  return Flow::kNext;
}

void For::run_over(Run& run, const ScopePtr& scope, const Value& iterable_value,
                   int64_t level) const {
  Loop::Keep keep;
  if (condition != nullptr) {
    keep = [&](const Value& item) {
      const auto inner = std::make_shared<Scope>(scope);
      target.assign(run, inner, item);
      return condition->evaluate(run, inner).truthy();
    };
  }
  Loop::Recurse recurse;
  if (recursive) {
    recurse = [&](const Value& items, int64_t next_level) {
      const Run::Nested nested(run, height);
      return run.capture([&] { run_over(run, scope, items, next_level); });
    };
  }
  run.line = line;
  const auto loop = std::make_shared<Loop>(run.elements(iterable_value), std::move(keep),
                                           std::move(recurse), level);
  bool completed = false;
  while (loop->advance()) {
    run.step();
    const auto inner = std::make_shared<Scope>(scope);
    inner->set(loop_name, Value(loop));
    target.assign(run, inner, loop->current());
    const Flow flow = execute_body(body, run, inner);
    if (flow == Flow::kBreak) break;
    completed |= flow == Flow::kNext;
  }
  loop->finish();
  // As in jinja2: also where every iteration ended early.
  if (!completed) execute_body(otherwise, run, std::make_shared<Scope>(scope));
}

Flow Jump::execute(Run& /*run*/, const ScopePtr& /*scope*/) const {
  return flow;
}

Flow Set::execute(Run& run, const ScopePtr& scope) const {
  const Value result = value->evaluate(run, scope);
  run.line = line;
  target.assign(run, scope, result);
  return Flow::kNext;
}

Flow SetBlock::execute(Run& run, const ScopePtr& scope) const {
  const Value block = run.capture([&] { execute_body(body, run, std::make_shared<Scope>(scope)); });
  target.assign(run, scope, filter == nullptr ? block : filter->apply(run, scope, block));
  return Flow::kNext;
}

Flow Block::execute(Run& run, const ScopePtr& scope) const {
  const auto inner = std::make_shared<Scope>(scope);
  for (const auto& [target, value] : names) target.assign(run, inner, value->evaluate(run, scope));
  return execute_body(body, run, inner);
}

Flow FilterBlock::execute(Run& run, const ScopePtr& scope) const {
  const Value block = run.capture([&] { execute_body(body, run, std::make_shared<Scope>(scope)); });
  run.write(filter->apply(run, scope, block));
  return Flow::kNext;
}

}  // namespace halftone::jinja
