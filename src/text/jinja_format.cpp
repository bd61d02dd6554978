#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "core/log.h"
#include "text/jinja_operators.h"
#include "text/jinja_print.h"
#include "text/jinja_text.h"

namespace halftone::jinja {
namespace {

// One "%-8.3f".
struct Conversion {
  std::string flags;
  int64_t width = 0;
  int64_t precision = -1;
  char kind = '\0';
};

class PercentFormat {
 public:
  PercentFormat(Run& run, const std::string& format, const Value& value)
      : run_(run), format_(format), value_(value) {
    const List* list = value.list();
    if (list != nullptr && list->kind == List::Kind::kTuple) tuple_ = list;
  }

  std::string run() {
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out_ += format_[at_++];
      } else {
        ++at_;
        convert();
      }
      run_.need_room(out_.size());
    }
    const bool may_be_left =
        value_.dict() != nullptr || value_.list() != nullptr || value_.is_undefined();
    const size_t given = tuple_ != nullptr ? tuple_->items.size() : may_be_left ? used_ : 1;
    if (used_ < given) throw Fault("'%' is given more values than its format takes");
    return std::move(out_);
  }

 private:
  char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  int64_t number() {
    int64_t value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = std::min<int64_t>(value * 10 + (format_[at_++] - '0'), int64_t{1} << 40);
    }
    return value;
  }

  void convert() {
    if (peek() == '%') {
      out_ += format_[at_++];
      return;
    }
    std::optional<std::string> key;
    if (peek() == '(') {
      const size_t close = format_.find(')', at_);
      if (close == std::string::npos) throw Fault("'%(' without its ')'");
      key = format_.substr(at_ + 1, close - at_ - 1);
      at_ = close + 1;
    }
    Conversion conversion;
    while (peek() != '\0' && std::string_view("-+ 0#").find(peek()) != std::string_view::npos) {
      conversion.flags += format_[at_++];
    }
    conversion.width = number();
    if (peek() == '.') {
      ++at_;
      conversion.precision = number();
    }
    conversion.kind = peek();
    ++at_;
    add(conversion, key ? named(*key) : positional());
  }

  const Value& named(const std::string& key) const {
    const Value* found = value_.dict() == nullptr ? nullptr : value_.dict()->find(key);
    if (found == nullptr) throw Fault(concat("'%' finds no value for '", key, "'"));
    return *found;
  }

  const Value& positional() {
    const size_t at = used_++;
    if (tuple_ == nullptr && at == 0) return value_;
    if (tuple_ == nullptr || at >= tuple_->items.size()) {
      throw Fault("'%' is given fewer values than its format takes");
    }
    return tuple_->items[at];
  }

  void add(const Conversion& conversion, const Value& value) {
    std::string text;
    if (conversion.kind == 's' || conversion.kind == 'r') {
      text = conversion.kind == 's' ? to_text(run_, value) : to_repr(run_, value);
      if (conversion.precision >= 0) {
        const auto offsets = code_point_offsets(text);
        text.resize(
            offsets[std::min(static_cast<size_t>(conversion.precision), offsets.size() - 1)]);
      }
    } else {
      text = number_text(conversion, value);
    }
    const auto length = static_cast<int64_t>(code_points(text));
    const auto padding = static_cast<size_t>(std::max<int64_t>(conversion.width - length, 0));
    run_.need_room(out_.size() + text.size() + padding);
    const bool left = conversion.flags.find('-') != std::string::npos;
    const bool zeros = !left && conversion.kind != 's' && conversion.kind != 'r' &&
                       conversion.flags.find('0') != std::string::npos;
    if (zeros) {
      const size_t sign = text.find_first_of("+- ") == 0 ? 1 : 0;
      text.insert(sign, padding, '0');
    } else if (!left) {
      out_.append(padding, ' ');
    }
    out_ += text;
    if (left) out_.append(padding, ' ');
  }

  static std::string number_text(const Conversion& conversion, const Value& value) {
    if (std::string_view("diufFeEgGxXo").find(conversion.kind) == std::string_view::npos) {
      throw Fault(
          concat("'%' does not know the conversion '", std::string(1, conversion.kind), "'"));
    }
    if (!value.defined().number()) {
      throw Fault(concat("'%", std::string(1, conversion.kind), "' needs a number, found ",
                         value.type_name()));
    }
    if (conversion.precision > 100) throw Fault("'%' with more than 100 digits");
    std::string pattern = "%";
    for (const char flag : {'+', ' ', '#'}) {
      if (conversion.flags.find(flag) != std::string::npos) pattern += flag;
    }
    std::array<char, 512> buffer{};
    if (std::string_view("fFeEgG").find(conversion.kind) != std::string_view::npos) {
      pattern += concat(".", conversion.precision < 0 ? 6 : conversion.precision, conversion.kind);
      std::snprintf(buffer.data(), buffer.size(), pattern.c_str(), *value.number());
      return buffer.data();
    }
    const bool decimal = conversion.kind != 'x' && conversion.kind != 'X' && conversion.kind != 'o';
    if (!decimal && !value.integer()) throw Fault("'%x' needs an integer");
    if (std::abs(*value.number()) >= 9.2e18) throw Fault("an integer beyond 64 bits");
    const int64_t number =
        value.integer() ? *value.integer() : static_cast<int64_t>(*value.number());
    pattern += concat("l", decimal ? 'd' : conversion.kind);
    std::snprintf(buffer.data(), buffer.size(), pattern.c_str(),
                  decimal ? number : std::abs(number));
    return (decimal || number >= 0 ? "" : "-") + std::string(buffer.data());
  }

  Run& run_;
  const std::string& format_;
  const Value& value_;
  const List* tuple_ = nullptr;
  size_t at_ = 0;
  size_t used_ = 0;
  std::string out_;
};

// "{}", "{0}", "{name}", with .attributes and [keys]; no format behind a colon.
class BraceFormat {
 public:
  BraceFormat(Run& run, const std::string& format, const Arguments& arguments)
      : run_(run), format_(format), arguments_(arguments) {}

  std::string run() {
    for (size_t at = 0; at < format_.size(); ++at) {
      const char c = format_[at];
      if (c != '{' && c != '}') {
        out_ += c;
      } else if (at + 1 < format_.size() && format_[at + 1] == c) {
        out_ += format_[at++];
      } else {
        const size_t close = c == '{' ? format_.find('}', at) : std::string::npos;
        if (close == std::string::npos) throw Fault("'format' with a brace alone");
        const Value value = field(format_.substr(at + 1, close - at - 1));
        out_ += to_text(run_, value);
        at = close;
      }
      run_.need_room(out_.size());
    }
    return std::move(out_);
  }

 private:
  Value field(const std::string& name) {
    if (name.find_first_of(":!{") != std::string::npos) {
      throw Fault(concat("'format' with '{", name, "}': formats of a field are not supported"));
    }
    const size_t end = std::min(name.find_first_of(".["), name.size());
    std::string_view rest = std::string_view(name).substr(end);
    Value value = first(name.substr(0, end));
    while (!rest.empty()) {
      const bool item = rest[0] == '[';
      const size_t close = item ? rest.find(']') : rest.find_first_of(".[", 1);
      if (item && close == std::string_view::npos) throw Fault("'format' with '[' without ']'");
      const std::string key(rest.substr(1, close == std::string_view::npos ? close : close - 1));
      int64_t index = 0;
      const auto parsed = std::from_chars(key.data(), key.data() + key.size(), index);
      const bool number = item && parsed.ptr == key.data() + key.size() && !key.empty();
      value = item ? get_item(run_, value, number ? Value(index) : Value(key))
                   : get_attribute(run_, value, key);
      rest = close == std::string_view::npos ? "" : rest.substr(item ? close + 1 : close);
    }
    return value;
  }

  const Value& first(const std::string& name) {
    size_t index = next_;
    if (name.empty()) {
      ++next_;
    } else if (name.find_first_not_of("0123456789") == std::string::npos) {
      std::from_chars(name.data(), name.data() + name.size(), index);
    } else {
      for (const auto& [key, value] : arguments_.named) {
        if (key == name) return value;
      }
      throw Fault(concat("'format' is given no '", name, "'"));
    }
    if (index < arguments_.positional.size()) return arguments_.positional[index];
    throw Fault(
        concat("'format' is given ", arguments_.positional.size(), " value(s), needs ", index + 1));
  }

  Run& run_;
  const std::string& format_;
  const Arguments& arguments_;
  size_t next_ = 0;
  std::string out_;
};

}  // namespace

Value format_percent(Run& run, const Value& format, const Value& value) {
  return run.text(PercentFormat(run, *format.text(), value).run());
}

Value format_braces(Run& run, const Value& format, const Arguments& arguments) {
  return run.text(BraceFormat(run, *format.text(), arguments).run());
}

}  // namespace halftone::jinja
