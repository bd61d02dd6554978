#include "core/log.h"
#include "text/jinja_runtime.h"

namespace halftone::jinja {
namespace {

struct CycleOf : Callable {
  explicit CycleOf(int64_t index_) : index(index_) {}
  Value call(Run& /*run*/, const Arguments& arguments) const override {
    const auto& values = arguments.positional;
    if (values.empty()) throw Fault("'loop.cycle' needs values");
    return values[static_cast<size_t>(index) % values.size()];
  }
  int64_t index;
};

}  // namespace

Loop::Loop(ListPtr items, Keep keep, Recurse recurse, int64_t level)
    : items_(std::move(items)),
      keep_(std::move(keep)),
      recurse_(std::move(recurse)),
      level_(level) {}

bool Loop::fetch() {
  while (next_ < items_->items.size()) {
    const Value& item = items_->items[next_++];
    if (keep_ && !keep_(item)) continue;
    ahead_.push_back(item);
    return true;
  }
  return false;
}

const Value* Loop::peek() {
  return ahead_.empty() && !fetch() ? nullptr : &ahead_.front();
}

bool Loop::advance() {
  if (peek() == nullptr) return false;
  previous_ = std::move(current_);
  current_ = std::move(ahead_.front());
  ahead_.pop_front();
  ++index_;
  return true;
}

int64_t Loop::length() {
  if (!keep_) return static_cast<int64_t>(items_->items.size());
  while (fetch()) {
  }
  return index_ + 1 + static_cast<int64_t>(ahead_.size());
}

void Loop::finish() {
  if (keep_) next_ = items_->items.size();
  keep_ = nullptr;
  recurse_ = nullptr;
}

Value Loop::attribute(std::string_view name) {
  if (name == "index0") return Value(index_);
  if (name == "index") return Value(index_ + 1);
  if (name == "first") return Value(index_ == 0);
  if (name == "last") return Value(peek() == nullptr);
  if (name == "length") return Value(length());
  if (name == "revindex") return Value(length() - index_);
  if (name == "revindex0") return Value(length() - index_ - 1);
  if (name == "depth") return Value(level_ + 1);
  if (name == "depth0") return Value(level_);
  if (name == "cycle") return Value(CallablePtr(std::make_shared<CycleOf>(index_)));
  if (name == "previtem") {
    return previous_ ? *previous_ : Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    const Value* next = peek();
    return next != nullptr ? *next : Value::undefined("there is no next item");
  }
  return Value::undefined(concat("'loop' has no attribute '", name, "'"));
}

}  // namespace halftone::jinja
