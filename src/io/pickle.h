#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace halftone {

// What a pickle describes. Nothing is imported, called or built: an object is the name of what
// would have been called, its arguments and its state.
struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInteger,
    kFloat,
    kBytes,
    kText,
    kList,
    kTuple,
    kDict,
    kSet,
    kGlobal,
    kObject,
    kPersistent,
  };

  Kind kind = Kind::kNone;
  bool callable = false;             // of a global
  uint16_t depth = 0;                // of nesting
  int64_t integer = 0;               // kBool, kInteger
  double number = 0.0;               // kFloat
  std::string_view text;             // kText, kBytes; a global's module
  std::string_view name;             // a global's
  std::vector<PickleValue*> items;   // kDict and an object's entries: keys and values by turns
  PickleValue* made_by = nullptr;    // kObject: a global
  PickleValue* arguments = nullptr;  // kObject: a tuple; kPersistent: the identification
  PickleValue* state = nullptr;      // kObject: null without one

  bool is(Kind wanted) const { return kind == wanted; }
  bool is_none() const { return kind == Kind::kNone; }
  // "module.name" of a global, or of what makes an object; else empty.
  std::string global_name() const;
  // "an integer", "a torch.Size": for messages.
  std::string described() const;
  // The value of a text key: of a dict, or of an object by its state, else by its entries. Null:
  // not there. The last of equal keys.
  const PickleValue* find(std::string_view key) const;
};

enum class GlobalUse : uint8_t {
  kRefused,
  kName,      // may be named
  kCallable,  // may be named and be what an object is made by
};

// What a pickle may contain.
struct PickleRules {
  // Whether a global is known.
  GlobalUse (*use_of)(std::string_view module, std::string_view name) = nullptr;
  bool persistent = false;  // identifications of storages
  size_t max_values = size_t{1} << 25;
  size_t max_stack = size_t{1} << 22;
  size_t max_marks = 1000;
  uint16_t max_depth = 200;
};

// A parsed pickle of protocol 2 to 5 and the values of it. Opcodes that are not known or not of
// these protocols, a global that the rules refuse, a call of what is no class, state for what takes
// none, lengths beyond the data, anything beyond the limits: InputErrors that name `source`, the
// byte, and the global.
class PickleDocument {
 public:
  PickleDocument(std::string bytes, const PickleRules& rules, const std::string& source);
  PickleDocument(const PickleDocument&) = delete;
  PickleDocument& operator=(const PickleDocument&) = delete;

  const PickleValue& root() const { return *root_; }
  const std::string& source() const { return source_; }

 private:
  std::string bytes_;  // what the values' texts point into
  std::string source_;
  std::deque<PickleValue> values_;
  const PickleValue* root_ = nullptr;
};

}  // namespace halftone
