#include <algorithm>
#include <array>
#include <cmath>

#include "core/log.h"
#include "text/jinja_print.h"
#include "text/utf8.h"

namespace halftone::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Run& run, const JsonStyle& style) : run_(run), style_(style) {}

  void add(const Value& value, size_t level) {
    run_.step();
    if (const std::string* text = value.text()) {
      add_text(*text);
    } else if (const Dict* dict = value.dict()) {
      add_dict(*dict, level);
    } else if (is_array(value)) {
      add_list(value.list()->items, level);
    } else {
      out += scalar(value);
    }
  }

  std::string out;

 private:
  static bool is_array(const Value& value) {
    const List* list = value.list();
    return list != nullptr && list->kind <= List::Kind::kTuple;
  }

  std::string scalar(const Value& value) const {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.truthy() ? "true" : "false";
    if (const auto integer = value.integer()) return std::to_string(*integer);
    const auto number = value.number();
    if (!number)
      throw Fault(concat("a value of type ", value.type_name(), " is not JSON serializable"));
    if (std::isnan(*number)) return "NaN";
    if (std::isinf(*number)) return *number < 0 ? "-Infinity" : "Infinity";
    return float_text(*number);
  }

  void add_unit(unsigned unit) {
    std::array<char, 16> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "\\u%04x", unit);
    out += buffer.data();
  }

  void add_character(std::string_view bytes, char32_t code) {
    static constexpr std::string_view kNamed = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kLetters = "\"\\nrtfb";
    const size_t named =
        code < 0x80 ? kNamed.find(static_cast<char>(code)) : std::string_view::npos;
    if (named != std::string_view::npos) {
      out += '\\';
      out += kLetters[named];
    } else if (code < 0x20 || (style_.ensure_ascii && code > 0x7E && code < 0x10000)) {
      add_unit(code);
    } else if (style_.ensure_ascii && code >= 0x10000) {
      add_unit(0xD800 + ((code - 0x10000) >> 10));
      add_unit(0xDC00 + ((code - 0x10000) & 0x3FF));
    } else {
      out += bytes;
    }
  }

  void add_text(const std::string& text) {
    run_.need_room(out.size() + text.size());
    run_.step(static_cast<int64_t>(text.size()) / kBytesPerStep);
    out += '"';
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = utf8_char_at(text, at);
      add_character(std::string_view(text).substr(at, c.bytes), c.code);
      at += c.bytes;
    }
    out += '"';
  }

  void new_line(size_t level) {
    if (!style_.indent) return;
    run_.need_room(out.size() + level * style_.indent->size());
    out += '\n';
    for (size_t i = 0; i < level; ++i) out += *style_.indent;
  }

  void add_list(const std::vector<Value>& items, size_t level) {
    if (items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) separate();
      new_line(level + 1);
      add(items[i], level + 1);
    }
    new_line(level);
    out += ']';
  }

  void add_dict(const Dict& dict, size_t level) {
    if (dict.items().empty()) {
      out += "{}";
      return;
    }
    out += '{';
    const char* first = "";
    for (const auto* item : ordered(dict)) {
      if (first == nullptr) separate();
      first = nullptr;
      new_line(level + 1);
      const std::string* key = item->first.text();
      add_text(key != nullptr ? *key : scalar(item->first));
      out += style_.key_separator;
      add(item->second, level + 1);
    }
    new_line(level);
    out += '}';
  }

  void separate() {
    run_.need_room(out.size() + style_.item_separator.size() + style_.key_separator.size());
    out += style_.item_separator;
  }

  std::vector<const std::pair<Value, Value>*> ordered(const Dict& dict) const {
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items()) items.push_back(&item);
    if (!style_.sort_keys) return items;
    for (const auto* item : items) {
      if (item->first.text() == nullptr) throw Fault("tojson sorts texts only, found another key");
    }
    std::ranges::sort(items, {}, [](const auto* item) { return *item->first.text(); });
    return items;
  }

  Run& run_;
  const JsonStyle& style_;
};

}  // namespace

std::string to_json(Run& run, const Value& value, const JsonStyle& style) {
  JsonWriter writer(run, style);
  writer.add(value, 0);
  return std::move(writer.out);
}

}  // namespace halftone::jinja
