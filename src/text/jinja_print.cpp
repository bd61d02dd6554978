#include "text/jinja_print.h"

#include <array>
#include <charconv>
#include <cmath>

#include "core/log.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace halftone::jinja {
namespace {

void append_escaped(char32_t code, std::string& out) {
  std::array<char, 16> buffer{};
  const auto* format = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x";
  std::snprintf(buffer.data(), buffer.size(), format, static_cast<unsigned>(code));
  out += buffer.data();
}

std::string text_repr(Run& run, const std::string& text) {
  const bool doubled = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = doubled ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_char_at(text, at);
    run.need_room(out.size());
    if (c.code == '\n' || c.code == '\r' || c.code == '\t') {
      out += c.code == '\n' ? "\\n" : c.code == '\r' ? "\\r" : "\\t";
    } else if (c.code == static_cast<char32_t>(quote) || c.code == '\\') {
      out += '\\';
      out += text[at];
    } else if (c.code < 0x20 || c.code == 0x7F || (c.code >= 0x80 && !is_printable(c.code))) {
      append_escaped(c.code, out);
    } else {
      out.append(text, at, c.bytes);
    }
    at += c.bytes;
  }
  return out + quote;
}

class Printer {
 public:
  explicit Printer(Run& run) : run_(run) {}

  void add(const Value& value) {
    run_.step();
    run_.need_room(out.size());
    if (const List* list = value.list()) return add_list(value, *list);
    if (const Dict* dict = value.dict()) return add_dict(*dict);
    if (const std::string* text = value.text()) {
      const std::string quoted = text_repr(run_, *text);
      out += value.is_markup() ? concat("Markup(", quoted, ")") : quoted;
    } else if (value.is_undefined()) {
      out += "Undefined";
    } else {
      out += to_text(run_, value);
    }
  }

  std::string out;

 private:
  void add_list(const Value& value, const List& list) {
    if (list.kind == List::Kind::kGenerator || list.kind == List::Kind::kRange) {
      throw Fault(concat("a ", value.type_name(), " has no text: use the filter 'list'"));
    }
    const bool tuple = list.kind == List::Kind::kTuple;
    const bool view = !tuple && list.kind != List::Kind::kList;
    if (view) out += value.type_name() + "(";
    out += tuple ? "(" : "[";
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out += ", ";
      add(list.items[i]);
    }
    if (tuple && list.items.size() == 1) out += ",";
    out += tuple ? ")" : "]";
    if (view) out += ")";
  }

  void add_dict(const Dict& dict) {
    out += "{";
    const char* separator = "";
    for (const auto& [key, value] : dict.items()) {
      out += separator;
      separator = ", ";
      add(key);
      out += ": ";
      add(value);
    }
    out += "}";
  }

  Run& run_;
};

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::scientific);
  std::string scientific(buffer.data(), end.ptr);
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return scientific;
  std::string digits = scientific.substr(0, e);
  const std::string sign = digits[0] == '-' ? "-" : "";
  std::erase_if(digits, [](char c) { return c == '-' || c == '.'; });
  if (exponent < 0)
    return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string to_text(Run& run, const Value& value) {
  if (const std::string* text = value.text()) return *text;
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.truthy() ? "True" : "False";
  if (value.is_float()) return float_text(*value.number());
  if (const auto integer = value.integer()) return std::to_string(*integer);
  return to_repr(run, value);
}

std::string to_repr(Run& run, const Value& value) {
  if (value.callable() != nullptr || value.loop() != nullptr || value.space() != nullptr) {
    throw Fault(concat("a ", value.type_name(), " has no text"));
  }
  Printer printer(run);
  printer.add(value);
  return std::move(printer.out);
}

}  // namespace halftone::jinja
