#include "core/json.h"

#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"

namespace halftone {
namespace {

TEST(JsonTest, KeepsTheOrderOfKeys) {
  EXPECT_EQ(parse_json(R"({"b": [1, {"x": null}], "a": "t"})", "x").dump(),
            R"({"b":[1,{"x":null}],"a":"t"})");
}

TEST(JsonTest, RefusesWhatIsNotStrict) {
  const auto parse = [](const char* text) { return [text] { parse_json(text, "file.json"); }; };
  expect_error<InputError>(parse(R"({"a": 1, "a": 2})"), "file.json: the key 'a' appears twice");
  expect_error<InputError>(parse("{\"a\":\n 1,}"), "file.json: not valid JSON at line 2");
  expect_error<InputError>(parse("[1] 2"), "not valid JSON");
  expect_error<InputError>(parse(""), "not valid JSON");
  const std::string deep = std::string(101, '[') + std::string(101, ']');
  expect_error<InputError>(parse(deep.c_str()), "nested deeper than 100");
  EXPECT_NO_THROW(parse_json(std::string(100, '[') + std::string(100, ']'), "x"));
}

TEST(JsonTest, MembersHaveTheirTypes) {
  const Json object = parse_json(R"({"n": 3, "t": "x", "null": null, "big": 18446744073709551615,
                                     "f": 0.5, "yes": true})",
                                 "x");
  EXPECT_EQ(json_member<int64_t>(object, "n", "f"), 3);
  EXPECT_EQ(json_member<double>(object, "n", "f"), 3.0);
  EXPECT_EQ(json_member<std::string>(object, "t", "f"), "x");
  EXPECT_TRUE(json_member<bool>(object, "yes", "f"));
  EXPECT_EQ(json_member_or<int64_t>(object, "null", 7, "f"), 7);
  EXPECT_EQ(json_member_or<int64_t>(object, "absent", 7, "f"), 7);
  expect_error<InputError>([&] { json_member<int64_t>(object, "absent", "f"); },
                           "f: the key 'absent' is missing");
  expect_error<InputError>([&] { json_member<int64_t>(object, "t", "f"); },
                           "f: 't' must be an integer, found \"x\"");
  expect_error<InputError>([&] { json_member<int64_t>(object, "big", "f"); }, "an integer");
  expect_error<InputError>([&] { json_member_or<bool>(object, "n", false, "f"); },
                           "must be true or false");
  expect_error<InputError>([&] { json_member<int64_t>(object, "f", "f"); }, "an integer");
}

}  // namespace
}  // namespace halftone
