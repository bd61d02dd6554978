#include "io/pickle.h"

#include "core/log.h"
#include "io/pickle_machine.h"
#include "io/shown_name.h"

namespace halftone {

std::string PickleValue::global_name() const {
  const PickleValue* global = kind == Kind::kObject ? made_by : this;
  if (global->kind != Kind::kGlobal) return {};
  return concat(global->text, ".", global->name);
}

std::string PickleValue::described() const {
  switch (kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "a bool";
    case Kind::kInteger:
      return concat("the integer ", integer);
    case Kind::kFloat:
      return "a float";
    case Kind::kBytes:
      return "bytes";
    case Kind::kText:
      return concat("the text ", shown_name(std::string(text.substr(0, 80))));
    case Kind::kList:
      return "a list";
    case Kind::kTuple:
      return "a tuple";
    case Kind::kDict:
      return "a dict";
    case Kind::kSet:
      return "a set";
    case Kind::kGlobal:
      return shown_name(global_name());
    case Kind::kObject:
      return concat("an object of ", shown_name(global_name()));
    case Kind::kPersistent:
      return "a persistent identification";
  }
  return {};
}

const PickleValue* PickleValue::find(std::string_view key) const {
  if (kind == Kind::kObject && state != nullptr) return state->find(key);
  if (kind != Kind::kDict && kind != Kind::kObject) return nullptr;
  const PickleValue* found = nullptr;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    if (items[i]->kind == Kind::kText && items[i]->text == key) found = items[i + 1];
  }
  return found;
}

PickleDocument::PickleDocument(std::string bytes, const PickleRules& rules,
                               const std::string& source)
    : bytes_(std::move(bytes)), source_(source) {
  root_ = PickleMachine(bytes_, rules, source_, values_).run();
}

}  // namespace halftone
