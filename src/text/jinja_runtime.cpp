#include "text/jinja_runtime.h"

#include <algorithm>

#include "core/log.h"
#include "text/jinja_print.h"
#include "text/utf8.h"

namespace halftone::jinja {

std::vector<const Value*> bind(const Arguments& arguments, std::string_view function,
                               const std::vector<std::string_view>& parameters, size_t required) {
  if (arguments.positional.size() > parameters.size()) {
    throw Fault(concat("'", function, "' takes at most ", parameters.size(), " argument(s), found ",
                       arguments.positional.size()));
  }
  std::vector<const Value*> bound(parameters.size(), nullptr);
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::ranges::find(parameters, name);
    const auto at = static_cast<size_t>(found - parameters.begin());
    if (found == parameters.end() || bound[at] != nullptr) {
      throw Fault(concat("'", function, "' does not take the argument '", name,
                         found == parameters.end() ? "'" : "' twice"));
    }
    bound[at] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) {
      throw Fault(concat("'", function, "' needs the argument '", parameters[i], "'"));
    }
  }
  return bound;
}

Value BoundBuiltin::call(Run& run, const Arguments& arguments) const {
  return function(run, self, arguments);
}

void Scope::set(int name, Value value) {
  for (auto& [known, old] : names) {
    if (known != name) continue;
    old = std::move(value);
    return;
  }
  names.emplace_back(name, std::move(value));
}

Run::Run(const Limits& limits, std::vector<std::optional<Value>> context,
         std::function<std::tm()> now)
    : limits_(limits),
      steps_(limits.steps),
      bytes_(limits.bytes),
      context_(std::move(context)),
      now_(std::move(now)) {}

void Run::stop_steps() const {
  throw Fault(concat("the template takes more than ", limits_.steps, " steps"));
}

void Run::stop_bytes() const {
  throw Fault(concat("the template makes more than ", limits_.bytes, " bytes"));
}

Value Run::text(std::string bytes, bool markup) {
  charge(bytes.size() + sizeof(Text));
  step(1 + static_cast<int64_t>(bytes.size()) / kBytesPerStep);
  return Value(std::move(bytes), markup);
}

Value Run::list(std::vector<Value> items, List::Kind kind) {
  charge(items.size() * sizeof(Value) + sizeof(List));
  step(1 + static_cast<int64_t>(items.size()));
  return make_list(std::move(items), kind);
}

Value Run::dict(Dict dict) {
  charge(dict.items().size() * 4 * sizeof(Value) + sizeof(Dict));
  step(1 + static_cast<int64_t>(dict.items().size()));
  return make_dict(std::move(dict));
}

Namespace* Run::make_namespace(Dict attributes) {
  charge(attributes.items().size() * 4 * sizeof(Value) + sizeof(Namespace));
  spaces_.push_back(std::make_unique<Namespace>(Namespace{std::move(attributes)}));
  return spaces_.back().get();
}

ListPtr Run::elements(const Value& value) {
  if (const ListPtr* pointer = value.list_pointer()) {
    const List& list = **pointer;
    if (list.kind != List::Kind::kGenerator) return *pointer;
    if (list.used) return std::make_shared<const List>();
    list.used = true;
    return *pointer;
  }
  std::vector<Value> items;
  if (const std::string* text = value.text()) {
    for (size_t at = 0; at < text->size();) {
      const size_t bytes = utf8_char_at(*text, at).bytes;
      items.push_back(this->text(text->substr(at, bytes)));
      at += bytes;
    }
  } else if (const Dict* dict = value.dict()) {
    for (const auto& [key, entry] : dict->items()) items.push_back(key);
  } else if (!value.is_undefined()) {
    throw Fault(concat("'", value.type_name(), "' object is not iterable"));
  }
  return *list(std::move(items)).list_pointer();
}

Value Run::lookup(const Scope& scope, int name, const std::string& spelling) const {
  for (const Scope* level = &scope; level != nullptr; level = level->parent.get()) {
    for (const auto& [known, value] : level->names) {
      if (known == name) return value;
    }
  }
  const auto& given = context_[static_cast<size_t>(name)];
  if (given) return *given;
  return Value::undefined(concat("'", spelling, "' is undefined"));
}

void Run::keep_scope(ScopePtr scope) {
  charge(sizeof(Scope) + sizeof(ScopePtr) + 4 * sizeof(Value));
  if (kept_.empty() || kept_.back() != scope) kept_.push_back(std::move(scope));
}

void Run::write(std::string_view text) {
  charge(text.size());
  step(static_cast<int64_t>(text.size()) / kBytesPerStep);
  output_ += text;
}

void Run::write(const Value& value) {
  if (const std::string* text = value.text()) return write(std::string_view(*text));
  write(std::string_view(to_text(*this, value)));
}

Value Run::capture(const std::function<void()>& body) {
  std::string outer = std::exchange(output_, {});
  body();
  return text(std::exchange(output_, std::move(outer)));
}

Value Run::call(const Value& function, const Arguments& arguments) {
  if (const Callable* callable = function.callable()) return callable->call(*this, arguments);
  const Loop* loop = function.loop();
  if (loop == nullptr) {
    throw Fault(concat("'", function.defined().type_name(), "' object is not callable"));
  }
  const auto iterable = bind(arguments, "loop", {"iterable"}, 1);
  if (!loop->recurse()) throw Fault("loop(...) needs a for with 'recursive' that still runs");
  const auto recurse = loop->recurse();
  return recurse(*iterable[0], loop->level() + 1);
}

Run::Nested::Nested(Run& run, int height) : run_(run), height_(height) {
  if (run.height_ + height > run.limits_.height) {
    throw Fault(concat("macros call each other too deeply (more than ", run.limits_.height,
                       " nested nodes)"));
  }
  run.height_ += height;
}

}  // namespace halftone::jinja
