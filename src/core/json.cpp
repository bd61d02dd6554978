#include "core/json.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

constexpr size_t kMaxDepth = 100;

std::string place(std::string_view text, size_t byte) {
  byte = std::min(byte, text.size());
  const auto line = std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(byte), '\n') + 1;
  const size_t start = text.rfind('\n', byte == 0 ? 0 : byte - 1);
  const size_t before = start == std::string_view::npos || start >= byte ? 0 : start + 1;
  return concat("line ", line, ", column ", std::max<size_t>(byte - before, 1));
}

// Builds the value from the parser's events: the library itself keeps the last of two equal keys.
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  StrictBuilder(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(size_t /*size*/) override { return open(Json::object()); }
  bool start_array(size_t /*size*/) override { return open(Json::array()); }
  bool end_object() override {
    keys_.pop_back();
    return close();
  }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    if (!keys_.back().insert(value).second) {
      throw InputError(concat(source_, ": the key '", value, "' appears twice in one object"));
    }
    key_ = value;
    return true;
  }

  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& /*error*/) override {
    throw InputError(
        concat(source_, ": not valid JSON at ", place(text_, position),
               last_token.empty() ? "" : concat(", near '", last_token.substr(0, 40), "'")));
  }

 private:
  Json* add(Json&& value, bool /*container*/) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (stack_.back()->is_array()) {
      stack_.back()->push_back(std::move(value));
      return &stack_.back()->back();
    }
    // push_back on the ordered object: operator[] would search all keys again.
    auto& object = stack_.back()->get_ref<Json::object_t&>();
    object.push_back({std::move(key_), std::move(value)});
    return &object.back().second;
  }

  template <typename T>
  bool add(T&& value) {
    add(Json(std::forward<T>(value)), false);
    return true;
  }

  bool open(Json&& container) {
    if (stack_.size() >= kMaxDepth) {
      throw InputError(concat(source_, ": nested deeper than ", kMaxDepth, " levels"));
    }
    const bool object = container.is_object();
    stack_.push_back(add(std::move(container), true));
    if (object) keys_.emplace_back();
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& source_;
  Json root_;
  std::vector<Json*> stack_;
  std::vector<std::set<std::string>> keys_;
  std::string key_;
};

template <typename T>
constexpr const char* type_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_integral_v<T>) return "an integer";
  if constexpr (std::is_floating_point_v<T>) return "a number";
  return "a string";
}

template <typename T>
bool has_type(const Json& value) {
  if constexpr (std::is_same_v<T, bool>) return value.is_boolean();
  if constexpr (std::is_same_v<T, int64_t>) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{INT64_MAX});
  }
  if constexpr (std::is_same_v<T, double>) return value.is_number();
  return value.is_string();
}

}  // namespace

Json parse_json(std::string_view text, const std::string& source) {
  // The library takes a NUL for the end of the text.
  const size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    throw InputError(concat(source, ": not valid JSON at ", place(text, nul + 1), ": a NUL byte"));
  }
  StrictBuilder builder(text, source);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json read_json_file(const fs::path& path) {
  return parse_json(read_text_file(path), path.string());
}

template <typename T>
T json_member(const Json& object, const char* key, const std::string& source) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) {
    throw InputError(concat(source, ": the key '", key, "' is missing"));
  }
  if (!has_type<T>(*found)) {
    throw InputError(concat(source, ": '", key, "' must be ", type_name<T>(), ", found ",
                            found->dump().substr(0, 80)));
  }
  return found->get<T>();
}

template <typename T>
T json_member_or(const Json& object, const char* key, const T& fallback,
                 const std::string& source) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  return json_member<T>(object, key, source);
}

template bool json_member<bool>(const Json&, const char*, const std::string&);
template int64_t json_member<int64_t>(const Json&, const char*, const std::string&);
template double json_member<double>(const Json&, const char*, const std::string&);
template std::string json_member<std::string>(const Json&, const char*, const std::string&);
template bool json_member_or<bool>(const Json&, const char*, const bool&, const std::string&);
template int64_t json_member_or<int64_t>(const Json&, const char*, const int64_t&,
                                         const std::string&);
template double json_member_or<double>(const Json&, const char*, const double&, const std::string&);
template std::string json_member_or<std::string>(const Json&, const char*, const std::string&,
                                                 const std::string&);

}  // namespace halftone
