#include "io/pickle_machine.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "core/log.h"
#include "io/shown_name.h"
#include "kernels/check.h"

namespace halftone {
namespace {

// Names become parts of JSON files and of messages.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const bool follows = lead >= 0x80 && lead < 0xc0;
    if (follows || lead >= 0xf8) return false;
    const size_t more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (more > text.size() - i - 1) return false;
    uint32_t code = more == 0 ? lead : lead & (0x3fU >> more);
    for (size_t k = 1; k <= more; ++k) {
      const auto byte = static_cast<uint8_t>(text[i + k]);
      if ((byte & 0xc0) != 0x80) return false;
      code = code << 6 | (byte & 0x3fU);
    }
    constexpr std::array<uint32_t, 4> kLeast{0, 0x80, 0x800, 0x10000};
    if (code < kLeast[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += more + 1;
  }
  return true;
}

}  // namespace

PickleMachine::PickleMachine(std::string_view bytes, const PickleRules& rules,
                             const std::string& source, std::deque<PickleValue>& values)
    : bytes_(bytes), rules_(rules), source_(source), values_(values) {
  check(rules.use_of != nullptr, "a pickle is read by rules");
  none_ = make(Kind::kNone);
  empty_tuple_ = make(Kind::kTuple);
  for (size_t i = 0; i < small_.size(); ++i) {
    small_[i] = make(Kind::kInteger);
    small_[i]->integer = static_cast<int64_t>(i);
  }
}

void PickleMachine::fail(const std::string& text) const {
  throw InputError(concat(source_, ": byte ", opcode_, " of the pickle: ", text));
}

std::string_view PickleMachine::take(uint64_t bytes) {
  if (bytes > bytes_.size() - at_) {
    fail(concat(bytes, " bytes are expected, but only ", bytes_.size() - at_,
                " follow (a truncated or damaged copy?)"));
  }
  const std::string_view taken = bytes_.substr(at_, bytes);
  at_ += bytes;
  return taken;
}

std::string_view PickleMachine::take_line() {
  const size_t end = bytes_.find('\n', at_);
  if (end == bytes_.npos) fail("a line without an end (a truncated copy?)");
  const std::string_view line = bytes_.substr(at_, end - at_);
  at_ = end + 1;
  return line;
}

uint64_t PickleMachine::take_unsigned(int bytes) {
  const std::string_view data = take(static_cast<uint64_t>(bytes));
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value |= uint64_t{static_cast<uint8_t>(data[static_cast<size_t>(i)])} << (8 * i);
  }
  return value;
}

// Little-endian, two's complement.
int64_t PickleMachine::take_signed(int bytes) {
  if (bytes == 0) return 0;
  const int unused = 64 - 8 * bytes;
  return std::bit_cast<int64_t>(take_unsigned(bytes) << unused) >> unused;
}

PickleValue* PickleMachine::make(Kind kind) {
  if (values_.size() >= rules_.max_values) fail(concat("more than ", rules_.max_values, " values"));
  PickleValue& value = values_.emplace_back();
  value.kind = kind;
  return &value;
}

void PickleMachine::push(PickleValue* value) {
  if (stack_.size() >= rules_.max_stack) {
    fail(concat("more than ", rules_.max_stack, " values on the stack"));
  }
  stack_.push_back(value);
}

PickleValue* PickleMachine::top() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("the stack is empty");
  return stack_.back();
}

PickleValue* PickleMachine::pop() {
  PickleValue* value = top();
  stack_.pop_back();
  return value;
}

std::vector<PickleValue*> PickleMachine::pop_mark() {
  if (marks_.empty()) fail("no mark is set");
  const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
  std::vector<PickleValue*> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

void PickleMachine::put(PickleValue* container, PickleValue* value) {
  if (value->depth >= rules_.max_depth) {
    fail(concat("nested more than ", rules_.max_depth, " levels deep"));
  }
  container->depth = std::max<uint16_t>(container->depth, static_cast<uint16_t>(value->depth + 1));
}

void PickleMachine::push_integer(int64_t value) {
  if (value >= 0 && value < std::ssize(small_)) return push(small_[static_cast<size_t>(value)]);
  push(make(Kind::kInteger));
  stack_.back()->integer = value;
}

void PickleMachine::push_text(Kind kind, uint64_t bytes) {
  const std::string_view text = take(bytes);
  if (kind == Kind::kText && !is_utf8(text)) fail("a text that is not valid UTF-8");
  push(make(kind));
  stack_.back()->text = text;
}

void PickleMachine::push_tuple(std::vector<PickleValue*> items) {
  if (items.empty()) return push(empty_tuple_);
  PickleValue* tuple = make(Kind::kTuple);
  for (PickleValue* item : items) put(tuple, item);
  tuple->items = std::move(items);
  push(tuple);
}

void PickleMachine::append(PickleValue* list, const std::vector<PickleValue*>& items, Kind kind) {
  if (!list->is(kind)) {
    fail(concat("items for ", list->described(), "; expected a ",
                kind == Kind::kList ? "list" : "set"));
  }
  for (PickleValue* item : items) {
    put(list, item);
    list->items.push_back(item);
  }
}

void PickleMachine::set_items(const std::vector<PickleValue*>& items) {
  PickleValue* dict = top();
  if (!dict->is(Kind::kDict) && !dict->is(Kind::kObject)) {
    fail(concat("keys for ", dict->described(), "; expected a dict"));
  }
  if (items.size() % 2 != 0) fail("a key without a value");
  for (PickleValue* item : items) {
    put(dict, item);
    dict->items.push_back(item);
  }
}

void PickleMachine::remember(uint64_t key) {
  // Never more than there are opcodes.
  memo_[key] = top();
}

void PickleMachine::recall(uint64_t key) {
  const auto found = memo_.find(key);
  if (found == memo_.end()) fail(concat("the memo holds nothing under ", key));
  push(found->second);
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  const GlobalUse use = rules_.use_of(module, name);
  if (use == GlobalUse::kRefused) {
    fail(concat("the global ", shown_name(concat(module, ".", name)),
                " is not allowed here (it would run code of the file's choice)"));
  }
  PickleValue* global = make(Kind::kGlobal);
  global->text = module;
  global->name = name;
  global->callable = use == GlobalUse::kCallable;
  push(global);
}

void PickleMachine::push_object(PickleValue* made_by, PickleValue* arguments) {
  if (!made_by->is(Kind::kGlobal) || !made_by->callable) {
    fail(concat("a call of ", made_by->described(), ", which is no class"));
  }
  if (!arguments->is(Kind::kTuple)) {
    fail(concat(made_by->global_name(), " is called with ", arguments->described(),
                "; expected a tuple"));
  }
  PickleValue* object = make(Kind::kObject);
  put(object, arguments);
  object->made_by = made_by;
  object->arguments = arguments;
  push(object);
}

void PickleMachine::build() {
  PickleValue* state = pop();
  PickleValue* object = top();
  if (!object->is(Kind::kObject)) {
    fail(concat("state for ", object->described(), "; expected an object"));
  }
  if (object->state != nullptr) fail(concat("a second state for ", object->described()));
  // find() follows states: an object must not be its own.
  if (state->is(Kind::kObject)) fail(concat("an object as the state of ", object->described()));
  put(object, state);
  object->state = state;
}

}  // namespace halftone
