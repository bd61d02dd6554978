// Where the template of a model comes from, and what it is given.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/text/chat_fixture.h"

namespace halftone {
namespace {

const Json kHello = {{{"role", "user"}, {"content", "hello"}}};

std::string render(const fs::path& folder, const ChatOptions& options = {}) {
  return ChatTemplate::load(folder).render(kHello, options);
}

TEST(ChatTemplateTest, FilesOfAModel) {
  const TemporaryFolder folder;
  EXPECT_FALSE(has_chat_template(folder.path()));
  expect_error<InputError>([&] { render(folder.path()); }, "the model has no chat template");
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": null})");
  expect_error<InputError>([&] { render(folder.path()); }, "the model has no chat template");

  folder.write("chat_template.json", R"({"chat_template": "processor {{ bos_token }}"})");
  EXPECT_TRUE(has_chat_template(folder.path()));
  EXPECT_EQ(render(folder.path()), "processor <s>");
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<s>"}, "chat_template": "config {{ bos_token }}"})");
  EXPECT_EQ(render(folder.path()), "config <s>");
  folder.write("special_tokens_map.json", R"({"bos_token": "<x>", "eos_token": "</s>"})");
  folder.write("chat_template.jinja", "file {{ bos_token }}{{ eos_token }}{{ pad_token }}\n");
  EXPECT_EQ(render(folder.path()), "file <s></s>");
  const fs::path other = folder.write("other", "other {{ bos_token }}");
  EXPECT_EQ(ChatTemplate::load(folder.path(), other).render(kHello), "other <s>");

  folder.write("chat_template.jinja", "a\n{{ x.y.z }}");
  expect_error<InputError>([&] { render(folder.path()); }, "chat_template.jinja, line 2: 'x' is");
  folder.write("chat_template.jinja", "{% if %}");
  expect_error<InputError>([&] { render(folder.path()); }, "chat_template.jinja, line 1: expected");
}

TEST(ChatTemplateTest, SeveralTemplates) {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({"chat_template": [
      {"name": "default", "template": "D"}, {"name": "tool_use", "template": "T{{ tools }}"},
      {"name": "rag", "template": "R{{ documents }}"}]})");
  EXPECT_EQ(render(folder.path()), "D");
  ChatOptions options;
  options.tools = Json::array();
  EXPECT_EQ(render(folder.path(), options), "T[]");
  options.name = "rag";
  options.documents = {{{"text", "x"}}};
  EXPECT_EQ(render(folder.path(), options), "R[{'text': 'x'}]");
  options.name = "chat";
  expect_error<InputError>([&] { render(folder.path(), options); },
                           "no chat template 'chat'; there are: default, rag, tool_use");
  fs::create_directory(folder.path() / "additional_chat_templates");
  folder.write("additional_chat_templates/tool_use.jinja", "F");
  expect_error<InputError>([&] { render(folder.path()); }, "no chat template 'default'");
  folder.write("chat_template.jinja", "J");
  EXPECT_EQ(render(folder.path()), "J");
  options.name = "";
  EXPECT_EQ(render(folder.path(), options), "F");
}

TEST(ChatTemplateTest, DamagedConfigurations) {
  const TemporaryFolder folder;
  const auto refuse = [&](const std::string& config, const std::string& part) {
    folder.write("tokenizer_config.json", config);
    expect_error<InputError>([&] { render(folder.path()); }, part);
  };
  refuse(R"({"chat_template": 3})", "'chat_template' must be a string");
  refuse(R"({"chat_template": [3]})", "chat_template: expected an object");
  refuse(R"({"chat_template": [{"name": "a"}]})", "chat_template: the key 'template' is missing");
  refuse(R"({"chat_template": [{"name": "a", "template": ""}, {"name": "a", "template": ""}]})",
         "two chat templates have the name 'a'");
  refuse(R"({"chat_template": []})", "the model has no chat template");
  refuse(R"([])", "expected an object");
}

TEST(ChatTemplateTest, Arguments) {
  const ChatTemplate chat(
      "{{ a }}{{ bos_token }}{{ add_generation_prompt }}{{ tools }}{{ documents }}",
      {{"bos_token", "<s>"}}, "T");
  EXPECT_EQ(chat.render(kHello), "<s>FalseNoneNone");
  ChatOptions options;
  options.add_generation_prompt = true;
  options.arguments = {{"a", 1}, {"bos_token", "B"}};
  EXPECT_EQ(chat.render(kHello, options), "1BTrueNoneNone");
  options.arguments = {{"tools", 1}};
  expect_error<InputError>([&] { chat.render(kHello, options); },
                           "'tools' of the chat template is");
  options.arguments = Json::array();
  expect_error<InputError>([&] { chat.render(kHello, options); }, "expected an object");
  options = {};
  options.tools = Json::object();
  expect_error<InputError>([&] { chat.render(kHello, options); }, "'tools' must be a list");
  options.tools = {1};
  expect_error<InputError>([&] { chat.render(kHello, options); }, "tools[0]: expected an object");
  options.tools = {};
  options.documents = "x";
  expect_error<InputError>([&] { chat.render(kHello, options); }, "'documents' must be a list");
}

TEST(ChatTemplateTest, Messages) {
  const ChatTemplate chat("{{ messages|length }}", Json::object(), "T");
  const auto refuse = [&](const std::string& messages, const std::string& part) {
    expect_error<InputError>([&] { chat.render(parse_json(messages, "M")); }, part);
  };
  refuse("{}", "'messages' must be a list, found object");
  refuse("[]", "'messages' is empty");
  refuse("[1]", "messages[0]: expected an object");
  refuse(R"([{"content": "x"}])", "messages[0]: the key 'role' is missing");
  refuse(R"([{"role": 1, "content": "x"}])", "messages[0]: 'role' must be a string");
  refuse(R"([{"role": "user"}])", "messages[0]: expected 'content' or 'tool_calls'");
  refuse(R"([{"role": "user", "content": 1}])", "'content' must be a text or a list of parts");
  refuse(R"([{"role": "user", "content": ["x"]}])", "messages[0], content[0]: expected an object");
  refuse(R"([{"role": "user", "content": [{"type": "image", "url": "x"}]}])",
         "content[0]: expected a part of type 'text', found 'image'");
  refuse(R"([{"role": "user", "content": [{"type": "text"}]}])", "the key 'text' is missing");
  const Json fine = parse_json(R"([{"role": "user", "content": [{"type": "text", "text": "x"}]},
      {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": {"a": 1}}])",
                               "M");
  EXPECT_EQ(chat.render(fine), "3");
}

}  // namespace
}  // namespace halftone
