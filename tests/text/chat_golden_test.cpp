// What transformers renders of published templates (tests/data/chat/README.md).
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/text/chat_fixture.h"
#include "text/chat_template.h"

namespace halftone {
namespace {

class ChatGoldenTest : public testing::TestWithParam<std::string> {};

std::vector<std::string> template_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(chat_folder() / "templates")) {
    names.push_back(entry.path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}

void expect_rendered(const ChatTemplate& chat, const Json& one, const Json& golden) {
  ChatOptions options;
  options.add_generation_prompt = one.value("add_generation_prompt", false);
  options.tools = one.value("tools", Json());
  options.arguments = one.value("arguments", Json::object());
  options.now = &a_friday;
  const auto render = [&] { return chat.render(one.at("messages"), options); };
  if (golden.contains("text")) {
    EXPECT_EQ(render(), golden.at("text").get<std::string>());
  } else if (golden.contains("refuses")) {
    expect_error<InputError>(render, "refuses: " + golden.at("refuses").get<std::string>());
  } else {
    expect_error<InputError>(render, ".jinja, line ");
  }
}

TEST_P(ChatGoldenTest, EqualsTransformers) {
  const fs::path file = chat_folder() / "templates" / (GetParam() + ".jinja");
  const Json tokens = {
      {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}};
  const ChatTemplate chat(read_text_file(file), tokens, file.string());
  const Json goldens = read_json_file(chat_folder() / "goldens" / (GetParam() + ".json"));
  const Json cases = read_json_file(chat_folder() / "cases.json");
  ASSERT_EQ(goldens.size(), cases.size());
  for (const Json& one : cases) {
    const auto name = one.at("name").get<std::string>();
    SCOPED_TRACE(name);
    expect_rendered(chat, one, goldens.at(name));
  }
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::ranges::replace_if(
      name, [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatGoldenTest, testing::ValuesIn(template_names()), test_name);

}  // namespace
}  // namespace halftone
