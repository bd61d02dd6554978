#include <algorithm>
#include <array>

#include "core/log.h"
#include "text/jinja_string_methods.h"
#include "text/jinja_text.h"
#include "text/utf8.h"

namespace halftone::jinja {
namespace {

template <Ends kEnds>
Value method_strip(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "strip", {"chars"}, 0);
  std::optional<std::string_view> characters;
  if (given[0] != nullptr && !given[0]->is_none()) characters = text_argument(*given[0], "strip");
  return run.text(std::string(strip(*self.text(), characters, kEnds)), self.is_markup());
}

template <bool kFromEnd>
Value method_split(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "split", {"sep", "maxsplit"}, 0);
  const std::string& text = *self.text();
  std::optional<std::string_view> separator;
  if (given[0] != nullptr && !given[0]->is_none()) separator = text_argument(*given[0], "split");
  // A search from the end compares at every place.
  const size_t compared = kFromEnd && separator ? separator->size() : 1;
  run.step(static_cast<int64_t>(text.size() * compared) / kBytesPerStep);
  const int64_t limit = integer_or(given[1], -1, "split");
  run.need_room(text.size() * sizeof(std::string_view) / std::max<size_t>(compared, 1));
  std::vector<Value> parts;
  for (const std::string_view part : split(text, separator, limit, kFromEnd)) {
    parts.push_back(run.text(std::string(part), self.is_markup()));
  }
  return run.list(std::move(parts));
}

Value method_splitlines(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "splitlines", {"keepends"}, 0);
  const bool keep = given[0] != nullptr && given[0]->truthy();
  std::vector<Value> lines;
  for (const std::string_view line : split_lines(*self.text(), keep)) {
    lines.push_back(run.text(std::string(line), self.is_markup()));
  }
  return run.list(std::move(lines));
}

template <bool kFromEnd>
Value method_partition(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "partition", {"sep"}, 1);
  const std::string& text = *self.text();
  const std::string& separator = text_argument(*given[0], "partition");
  if (separator.empty()) throw Fault("'partition' with an empty separator");
  run.step(static_cast<int64_t>(text.size() * (kFromEnd ? separator.size() : 1)) / kBytesPerStep);
  const size_t found = kFromEnd ? text.rfind(separator) : find_text(text, separator);
  std::array<std::string, 3> parts;
  if (found != std::string::npos) {
    parts = {text.substr(0, found), separator, text.substr(found + separator.size())};
  } else {
    parts[kFromEnd ? 2 : 0] = text;
  }
  std::vector<Value> values;
  values.reserve(parts.size());
  for (std::string& part : parts) values.push_back(run.text(std::move(part), self.is_markup()));
  return run.list(std::move(values), List::Kind::kTuple);
}

template <std::string (*kChange)(std::string_view)>
Value method_case(Run& run, const Value& self, const Arguments& arguments) {
  bind(arguments, "a change of case", {}, 0);
  run.need_room(self.text()->size() * 3);
  return run.text(kChange(*self.text()), self.is_markup());
}

std::string words_titled(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = utf8_char_at(text, at).bytes;
    const std::string_view character = text.substr(at, bytes);
    const std::string lower = lower_case(character);
    const std::string upper = upper_case(character);
    const bool cased = lower != upper;
    out += in_word ? lower : upper;
    in_word = cased;
    at += bytes;
  }
  return out;
}

std::string swapped_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = utf8_char_at(text, at).bytes;
    const std::string_view character = text.substr(at, bytes);
    const std::string lower = lower_case(character);
    out += lower == character ? upper_case(character) : lower;
    at += bytes;
  }
  return out;
}

template <bool kPrefix>
Value method_remove(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "removeprefix", {"part"}, 1);
  std::string_view text = *self.text();
  const std::string& part = text_argument(*given[0], "removeprefix");
  if (kPrefix && text.starts_with(part)) text.remove_prefix(part.size());
  if (!kPrefix && text.ends_with(part)) text.remove_suffix(part.size());
  return run.text(std::string(text), self.is_markup());
}

enum class Side { kLeft, kRight, kCenter };

template <Side kSide>
Value method_justify(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "center", {"width", "fillchar"}, 1);
  const int64_t width = integer_argument(*given[0], "center");
  const std::string fill = given[1] == nullptr ? " " : text_argument(*given[1], "center");
  if (code_points(fill) != 1) throw Fault("the fill must be one character");
  const std::string& text = *self.text();
  const auto length = static_cast<int64_t>(code_points(text));
  const auto padding = static_cast<size_t>(std::max<int64_t>(width - length, 0));
  run.need_room(text.size() + std::min<size_t>(padding, SIZE_MAX / 8) * fill.size());
  size_t before = kSide == Side::kLeft ? 0 : padding;
  // As Python puts the odd one.
  if (kSide == Side::kCenter) before = padding / 2 + (padding & static_cast<size_t>(width) & 1);
  std::string out;
  for (size_t i = 0; i < before; ++i) out += fill;
  out += text;
  for (size_t i = before; i < padding; ++i) out += fill;
  return run.text(std::move(out), self.is_markup());
}

Value method_zfill(Run& run, const Value& self, const Arguments& arguments) {
  const auto given = bind(arguments, "zfill", {"width"}, 1);
  std::string text = *self.text();
  const auto length = static_cast<int64_t>(code_points(text));
  const int64_t missing = integer_argument(*given[0], "zfill") - length;
  const auto padding = static_cast<size_t>(std::max<int64_t>(missing, 0));
  run.need_room(text.size() + padding);
  const bool sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  text.insert(sign ? 1 : 0, padding, '0');
  return run.text(std::move(text), self.is_markup());
}

constexpr std::array kMethods = {
    NamedBuiltin{"strip", &method_strip<Ends::kBoth>},
    NamedBuiltin{"lstrip", &method_strip<Ends::kStart>},
    NamedBuiltin{"rstrip", &method_strip<Ends::kEnd>},
    NamedBuiltin{"split", &method_split<false>},
    NamedBuiltin{"rsplit", &method_split<true>},
    NamedBuiltin{"splitlines", &method_splitlines},
    NamedBuiltin{"partition", &method_partition<false>},
    NamedBuiltin{"rpartition", &method_partition<true>},
    NamedBuiltin{"upper", &method_case<&upper_case>},
    NamedBuiltin{"lower", &method_case<&lower_case>},
    NamedBuiltin{"title", &method_case<&words_titled>},
    NamedBuiltin{"capitalize", &method_case<&capitalize>},
    NamedBuiltin{"swapcase", &method_case<&swapped_case>},
    NamedBuiltin{"removeprefix", &method_remove<true>},
    NamedBuiltin{"removesuffix", &method_remove<false>},
    NamedBuiltin{"ljust", &method_justify<Side::kLeft>},
    NamedBuiltin{"rjust", &method_justify<Side::kRight>},
    NamedBuiltin{"center", &method_justify<Side::kCenter>},
    NamedBuiltin{"zfill", &method_zfill},
};

}  // namespace

std::span<const NamedBuiltin> shaping_methods() {
  return kMethods;
}

std::string title_case(std::string_view text) {
  static constexpr std::string_view kOpening = "-({[<";
  std::string out;
  bool first = true;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_char_at(text, at);
    const std::string_view character = text.substr(at, c.bytes);
    const bool separates =
        is_python_space(c.code) || kOpening.find(character) != std::string_view::npos;
    out += separates ? std::string(character)
           : first   ? upper_case(character)
                     : lower_case(character);
    first = separates;
    at += c.bytes;
  }
  return out;
}

}  // namespace halftone::jinja
