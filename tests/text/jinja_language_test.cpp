// The language itself against jinja2, and templates that mean harm.
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/text/chat_fixture.h"
#include "text/jinja_template.h"

namespace halftone {
namespace {

using jinja::Limits;
using jinja::Template;

std::string render(const std::string& text, const Json& variables = Json::object(),
                   const Limits& limits = {}) {
  return Template(text, "T").render(variables, &a_friday, limits);
}

void expect_refused(const std::string& text, const std::string& part, const Limits& limits = {}) {
  SCOPED_TRACE(text.substr(0, 200));
  expect_error<InputError>([&] { render(text, Json::object(), limits); }, part);
}

std::string repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

TEST(JinjaLanguageTest, EqualsJinja2) {
  const Json file = read_json_file(chat_folder() / "language.json");
  const Json& variables = file.at("variables");
  ASSERT_GT(file.at("cases").size(), 1000U);
  for (const Json& one : file.at("cases")) {
    const auto text = one[0].get<std::string>();
    SCOPED_TRACE(text);
    if (one[1].contains("text")) {
      EXPECT_EQ(render(text, variables), one[1].at("text").get<std::string>());
    } else {
      expect_error<InputError>([&] { render(text, variables); }, "T, line ");
    }
  }
}

TEST(JinjaLanguageTest, ErrorsNameTheLineAndWhatWasFound) {
  expect_refused("a\n{% if x %}\nb", "T, line 2: a block without its 'endif'");
  expect_refused("a\n{{ x\n", "T, line 2: a tag '{{' without its '}}'");
  expect_refused("\n\n{# x", "T, line 3: a comment '{#' without its '#}'");
  expect_refused("{% raw %}\n{{ x }}", "T, line 1: a block 'raw' without its 'endraw'");
  expect_refused("{{ 'abc }}", "T, line 1: a text without its closing quote");
  expect_refused("\n{{ (1] }}", "T, line 2: unexpected ']', expected ')'");
  expect_refused("{{ a b }}", "expected '}}', found 'b'");
  expect_refused("{% extends 'x' %}", "unexpected tag 'extends'; supported: if, for, ");
  expect_refused("{{ a ? b }}", "unexpected character '?'");
  expect_refused("{% if a %}\n{{ b.c.d }}{% endif %}{{ b.c }}", "T, line 2: 'b' is undefined");
  expect_refused("\n{{ [1].append(2) }}", "T, line 2: templates may not change a list: 'append'");
  expect_refused("{{ {}.update({}) }}", "templates may not change a dict: 'update'");
  expect_refused("{{ 1 | nothing }}", "there is no filter 'nothing'");
  expect_refused("{{ 1 is nothing }}", "there is no test 'nothing'");
  expect_refused("{{ 1 + 'a' }}", "'+' is not for 'int' and 'str'");
  expect_refused("{{ range }}", "a function has no text");
  expect_refused("{{ ''.__class__.__mro__ }}", "'str' has no '__class__'");
  expect_refused("{{ 9223372036854775807 + 1 }}", "an integer beyond 64 bits");
  expect_refused("{{ 9223372036854775808 }}", "expected an integer of 64 bits");
  expect_refused("\n\n{{ raise_exception('no ' ~ 1) }}", "T, line 3: the template refuses: no 1");
  expect_refused("\xFF", "not valid UTF-8 at byte 0");
  expect_error<InputError>([] { render("{{ x }}", {{"x", UINT64_MAX}}); }, "beyond 64 bits");
}

TEST(JinjaLanguageTest, Dates) {
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y, %A') }}"), "26 Jul 2024, Friday");
  expect_refused("{{ strftime_now('%Y' * 1000) }}", "a format that is too long");
}

TEST(JinjaHostileTest, DeepTemplates) {
  const auto nested = [](const std::string& open, const std::string& close) {
    return "{{ " + repeated(open, 100000) + "1" + repeated(close, 100000) + " }}";
  };
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{
           {"(", ")"}, {"[", "]"}, {"{1: ", "}"}, {"not ", ""}, {"-", ""}, {"f(", ")"}}) {
    expect_refused(nested(open, close), "nested deeper than 100 levels");
  }
  expect_refused(repeated("{% if 1 %}", 100000), "nested deeper than 100 levels");
  expect_refused("{% set " + repeated("(", 100000) + "a" + repeated(")", 100000) + " = 1 %}",
                 "nested deeper than 100 levels");
  for (const char* link : {" + 1", " * 1", " ** 1", ".b", "[0]", "|trim", " if 1", "()"}) {
    expect_refused("{{ a" + repeated(link, 100000) + " }}", "more than 500 nested parts");
  }
  EXPECT_EQ(render("{{ 'a'" + repeated(" ~ 'a'", 100000) + " }}").size(), 100001U);
  EXPECT_EQ(render("{{ 0" + repeated(" or 0", 100000) + " }}"), "0");
}

// Small, so that the tests are fast.
const Limits kSmall{.steps = 1'000'000, .bytes = 16 << 20};
const std::string kSteps = "T, line 1: the template takes more than 1000000 steps";
const std::string kBytes = "T, line 1: the template makes more than 16777216 bytes";

TEST(JinjaHostileTest, Loops) {
  const std::string begin = "{% set r = range(100000) %}{% for a in r %}{% for b in r %}";
  expect_refused(begin + "{% endfor %}{% endfor %}", kSteps, kSmall);
  expect_refused(begin + "{{ 'x' * 100000 }}{% endfor %}{% endfor %}", kBytes, kSmall);
  expect_refused("{{ range(100001)|list }}", "'range' of more than 100000 numbers");
  expect_refused("{{ range(0, 9223372036854775807) }}", "'range' of more than 100000 numbers");
  expect_refused("{{ range(0, -9223372036854775807, -9223372036854775807)|list }}{{ x.y }}",
                 "'x' is undefined");
}

TEST(JinjaHostileTest, Bytes) {
  for (const char* text :
       {"{{ 'a' * 9223372036854775807 }}", "{{ [1] * 9223372036854775807 }}",
        "{{ 'a'.center(9223372036854775807) }}", "{{ 'a'.ljust(9223372036854775807, '\u20ac') }}",
        "{{ 'a'.zfill(9223372036854775807) }}", "{{ 'a'|indent(9223372036854775807, true) }}",
        "{{ [1]|tojson(indent=9223372036854775807) }}", "{{ '%999999999999d' % 1 }}",
        "{{ ('a' * 10000).replace('', 'b' * 100000) }}", "{{ (['a' * 100000] * 10000)|join }}",
        "{{ ('a' * 100000)|list|map('center', 1000)|join }}",
        // Twice as long with every step.
        "{% set n = namespace(a='ab') %}{% for i in range(64) %}{% set n.a = n.a ~ n.a %}{% endfor "
        "%}",
        "{% set n = namespace(a=[1]) %}{% for i in range(64) %}{% set n.a = n.a + n.a %}{% endfor "
        "%}"}) {
    expect_refused(text, kBytes, kSmall);
  }
  expect_refused("{{ '' * 9223372036854775807 }}{{ [] * 9223372036854775807 }}{{ x.y }}",
                 "'x' is undefined");
}

TEST(JinjaHostileTest, SharedParts) {
  // Few values that are walked as 2 ** 60.
  const auto doubled = [](const std::string& name) {
    return "{% set " + name + " = namespace(a=[1, 2]) %}{% for i in range(60) %}{% set " + name +
           ".a = [" + name + ".a, " + name + ".a] %}{% endfor %}";
  };
  expect_refused(doubled("n") + "{{ n.a }}", kSteps, kSmall);
  expect_refused(doubled("n") + "{{ n.a|tojson }}", kSteps, kSmall);
  expect_refused(doubled("n") + doubled("m") + "{{ n.a == m.a }}", kSteps, kSmall);
  expect_refused(doubled("n") + doubled("m") + "{{ n.a < m.a }}", kSteps, kSmall);
}

TEST(JinjaHostileTest, SlowSearches) {
  const std::string text = "{% set t = 'a' * 1000000 %}{% set p = 'a' * 500000 ~ 'b' %}";
  EXPECT_EQ(render(text + "{{ p in t }}{{ t.find(p) }}{{ t.replace(p, '')|length }}"),
            "False-11000000");
  expect_refused(text + "{{ t.rfind(p) }}", "takes more than 20000000 steps");
  expect_refused(text + "{{ t.rsplit(p) }}", "takes more than 20000000 steps");
}

TEST(JinjaHostileTest, Recursion) {
  expect_refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
                 "macros call each other too deeply");
  expect_refused(
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% if 1 %}{{ [a()] }}"
      "{% endif %}{% endmacro %}{{ a() }}",
      "macros call each other too deeply");
  expect_refused(
      "{% macro m(x) %}{{ caller(1) }}{% endmacro %}{% macro r() %}{% call(z) m(1) %}"
      "{{ r() }}{% endcall %}{% endmacro %}{{ r() }}",
      "macros call each other too deeply");
  expect_refused("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
                 "macros call each other too deeply");
  expect_refused(
      "{% set n = namespace(a=[]) %}{% for i in range(99999) %}{% set n.a = [n.a] %}"
      "{% endfor %}",
      "nested deeper than 200 levels");
  expect_refused(
      "{% set n = namespace(a={}) %}{% for i in range(99999) %}"
      "{% set n.a = {'a': n.a.items} %}{% endfor %}",
      "nested deeper than 200 levels");
  // A thing that holds itself neither leaks nor prints for ever.
  expect_refused("{% set n = namespace() %}{% set n.n = n %}{{ [n.n] }}",
                 "a namespace has no text");
  expect_refused(
      "{% set n = namespace() %}{% for i in [1] %}{% set n.l = loop %}{% endfor %}"
      "{{ n.l(1) }}",
      "needs a for with 'recursive'");
  EXPECT_EQ(
      render("{% set n = namespace() %}{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}"
             "{% set n.m = m %}{% endfor %}{{ n.m() }}"),
      "2");
}

}  // namespace
}  // namespace halftone
