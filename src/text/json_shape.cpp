#include "text/json_shape.h"

#include "core/log.h"

namespace halftone {
namespace {

const Json& member(const Json& object, const char* key, const std::string& source) {
  expect_object(object, source);
  const auto found = object.find(key);
  if (found == object.end()) throw InputError(concat(source, ": the key '", key, "' is missing"));
  return *found;
}

}  // namespace

void expect_object(const Json& value, const std::string& source) {
  if (value.is_object()) return;
  throw InputError(concat(source, ": expected an object, found ", value.type_name()));
}

const Json& object_member(const Json& object, const char* key, const std::string& source) {
  const Json& found = member(object, key, source);
  if (found.is_object()) return found;
  throw InputError(concat(source, ": '", key, "' must be an object, found ", found.type_name()));
}

const Json& array_member(const Json& object, const char* key, const std::string& source) {
  const Json& found = member(object, key, source);
  if (found.is_array()) return found;
  throw InputError(concat(source, ": '", key, "' must be a list, found ", found.type_name()));
}

std::string part_type(const Json& part, const std::string& source) {
  if (part.is_null()) return "null";
  expect_object(part, source);
  return json_member<std::string>(part, "type", source);
}

std::optional<TokenId> try_token_id(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  // An unsigned number beyond the range of int64_t becomes negative here.
  const auto id = value.get<int64_t>();
  if (id < 0 || id > kMaxTokenId) return std::nullopt;
  return static_cast<TokenId>(id);
}

InputError bad_token_id(const Json& value, const std::string& source) {
  return InputError(concat(source, ": expected a token id from 0 to ", kMaxTokenId, ", found ",
                           value.dump().substr(0, 80)));
}

TokenId token_id(const Json& value, const std::string& source) {
  const auto id = try_token_id(value);
  if (!id) throw bad_token_id(value, source);
  return *id;
}

void refuse_part(const std::string& source, const std::string& found,
                 const std::string& supported) {
  throw InputError(concat(source, ": ", found, " is not supported; supported: ", supported));
}

}  // namespace halftone
