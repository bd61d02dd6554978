#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

// The template language of chat templates: Jinja as Hugging Face's transformers runs it, over
// values that behave as Python's. Lists, dicts and texts never change once they are made.
namespace halftone::jinja {

// What a template does wrong. The line is added where it is known.
struct Fault : std::runtime_error {
  explicit Fault(const std::string& text, int line_ = 0) : std::runtime_error(text), line(line_) {}
  int line;
};

struct Text;
struct List;
class Dict;
struct Callable;
class Loop;
// What namespace() makes: the one thing that a template can change. The run owns it.
struct Namespace;

struct None {};
struct Undefined {
  // Why it is undefined, for the error of whatever needs a value.
  std::shared_ptr<const std::string> reason;
};

using TextPtr = std::shared_ptr<const Text>;
using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using CallablePtr = std::shared_ptr<const Callable>;
using LoopPtr = std::shared_ptr<Loop>;

class Value {
 public:
  Value() = default;  // none
  explicit Value(bool value) : data_(value) {}
  explicit Value(int64_t value) : data_(value) {}
  explicit Value(double value) : data_(value) {}
  explicit Value(std::string text, bool markup = false);
  explicit Value(TextPtr text) : data_(std::move(text)) {}
  explicit Value(ListPtr list) : data_(std::move(list)) {}
  explicit Value(DictPtr dict) : data_(std::move(dict)) {}
  explicit Value(CallablePtr callable) : data_(std::move(callable)) {}
  explicit Value(LoopPtr loop) : data_(std::move(loop)) {}
  explicit Value(Namespace* space) : data_(space) {}
  static Value undefined(std::string reason);

  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }

  // Each is null or empty where the value is something else. True counts as 1, as in Python.
  const std::string* text() const;
  bool is_markup() const;
  const List* list() const;  // lists, tuples, ranges, views of dicts and what filters yield
  const ListPtr* list_pointer() const { return std::get_if<ListPtr>(&data_); }
  const Dict* dict() const;
  const Callable* callable() const;
  Loop* loop() const;
  Namespace* space() const;
  std::optional<int64_t> integer() const;
  std::optional<double> number() const;

  // Throws the Fault of an undefined value.
  const Value& defined() const;
  bool truthy() const;
  // Levels of lists and dicts.
  int depth() const;
  // Python's name of the type.
  std::string type_name() const;

 private:
  std::variant<None, Undefined, bool, int64_t, double, TextPtr, ListPtr, DictPtr, CallablePtr,
               LoopPtr, Namespace*>
      data_;
};

struct Text {
  std::string bytes;    // UTF-8
  bool markup = false;  // what the filter `safe` makes: other text is escaped when it is added
};

struct List {
  enum class Kind { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };

  std::vector<Value> items;
  Kind kind = Kind::kList;
  int depth = 1;
  mutable bool used = false;  // a generator gives its items once

  // What has positions and can be indexed.
  bool is_sequence() const { return kind <= Kind::kRange; }
};

// Keys are texts, numbers, booleans and none, in the order of insertion.
class Dict {
 public:
  // A key that is there keeps its place and gets the new value.
  void set(const Value& key, const Value& value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<std::pair<Value, Value>>& items() const { return items_; }
  int depth() const { return depth_; }

 private:
  std::optional<size_t> place(const Value& key) const;

  std::vector<std::pair<Value, Value>> items_;
  std::unordered_map<std::string_view, size_t> texts_;
  int depth_ = 1;
};

struct Namespace {
  Dict attributes;
};

// Nesting beyond kMaxValueDepth levels is a Fault: all walks over values recurse.
constexpr int kMaxValueDepth = 200;
Value make_list(std::vector<Value> items, List::Kind kind = List::Kind::kList);
Value make_dict(Dict dict);

}  // namespace halftone::jinja
