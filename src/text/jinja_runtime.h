#pragma once

#include <ctime>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace halftone::jinja {

class Run;

// What a template may use before it is stopped with an error.
struct Limits {
  int64_t steps = 20'000'000;          // evaluated nodes, elements and pieces of text looked at
  int64_t bytes = int64_t{256} << 20;  // made by all steps together
  int64_t range = 100'000;             // elements of a range, as in transformers
  int height = 2000;                   // of nested nodes, through the bodies of the macros called
};

// Of text that is looked at.
constexpr int64_t kBytesPerStep = 32;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// The arguments of a built-in function by parameter; null where an optional one is not given. Too
// many, too few, unknown or repeated ones are Faults that name the function.
std::vector<const Value*> bind(const Arguments& arguments, std::string_view function,
                               const std::vector<std::string_view>& parameters, size_t required);

// A method of `self`, a filter of it, or a global function (`self` is none).
using Builtin = Value (*)(Run& run, const Value& self, const Arguments& arguments);
struct NamedBuiltin {
  std::string_view name;
  Builtin function;
};
Builtin find_filter(std::string_view name);  // null where there is none, as in the next
Builtin find_test(std::string_view name);
Builtin find_global(std::string_view name);
// A method as a value to call; nothing where the type has none of that name.
std::optional<Value> find_method(const Value& self, std::string_view name);

struct Callable {
  virtual ~Callable() = default;
  virtual Value call(Run& run, const Arguments& arguments) const = 0;
  virtual int depth() const { return 0; }
};

struct BoundBuiltin : Callable {
  BoundBuiltin(Builtin function_, Value self_) : function(function_), self(std::move(self_)) {}
  Value call(Run& run, const Arguments& arguments) const override;
  int depth() const override { return self.depth() + 1; }

  Builtin function;
  Value self;
};

// Names of one body; found from the inside out.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> parent_) : parent(std::move(parent_)) {}
  void set(int name, Value value);

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> names;
};
using ScopePtr = std::shared_ptr<Scope>;

// `loop` within a for. Elements that a filter of the for drops are dropped as late as possible:
// the condition may depend on what the body does.
class Loop {
 public:
  using Keep = std::function<bool(const Value& item)>;
  using Recurse = std::function<Value(const Value& iterable, int64_t level)>;
  Loop(ListPtr items, Keep keep, Recurse recurse, int64_t level);

  bool advance();
  const Value& current() const { return *current_; }
  // No condition is evaluated from now on: its names are gone.
  void finish();
  Value attribute(std::string_view name);
  // Null where the for is not recursive.
  const Recurse& recurse() const { return recurse_; }
  int64_t level() const { return level_; }
  int depth() const { return items_->depth + 1; }

 private:
  const Value* peek();
  int64_t length();
  bool fetch();

  ListPtr items_;
  Keep keep_;
  Recurse recurse_;
  int64_t level_;
  size_t next_ = 0;
  int64_t index_ = -1;
  std::deque<Value> ahead_;
  std::optional<Value> previous_;
  std::optional<Value> current_;
};

// The state of one rendering.
class Run {
 public:
  Run(const Limits& limits, std::vector<std::optional<Value>> context,
      std::function<std::tm()> now);

  void step(int64_t count = 1) {
    if ((steps_ -= count) < 0) stop_steps();
  }
  // Whether a text of so many bytes may still be made.
  void need_room(size_t bytes) const {
    if (static_cast<int64_t>(bytes) > bytes_) stop_bytes();
  }
  void charge(size_t bytes) {
    need_room(bytes);
    bytes_ -= static_cast<int64_t>(bytes);
  }
  Value text(std::string bytes, bool markup = false);
  Value list(std::vector<Value> items, List::Kind kind = List::Kind::kList);
  Value dict(Dict dict);
  Namespace* make_namespace(Dict attributes);
  // The elements of what Python can iterate over; a Fault for everything else.
  ListPtr elements(const Value& value);

  Value lookup(const Scope& scope, int name, const std::string& spelling) const;
  // A macro was made here: its names stay until the run ends.
  void keep_scope(ScopePtr scope);
  void write(std::string_view text);
  void write(const Value& value);
  // What `body` writes, as a text.
  Value capture(const std::function<void()>& body);
  Value call(const Value& function, const Arguments& arguments);
  // For the time of a macro's body; a Fault where macros call each other too deeply.
  class Nested {
   public:
    Nested(Run& run, int height);
    ~Nested() { run_.height_ -= height_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    Run& run_;
    int height_;
  };

  const Limits& limits() const { return limits_; }
  std::tm now() const { return now_(); }
  std::string take_output() { return std::move(output_); }

  int line = 1;  // of what is evaluated

 private:
  [[noreturn]] void stop_steps() const;
  [[noreturn]] void stop_bytes() const;

  Limits limits_;
  int64_t steps_;
  int64_t bytes_;
  int height_ = 0;
  std::vector<std::optional<Value>> context_;  // by name
  std::function<std::tm()> now_;
  std::string output_;
  std::vector<ScopePtr> kept_;
  std::vector<std::unique_ptr<Namespace>> spaces_;
};

}  // namespace halftone::jinja
