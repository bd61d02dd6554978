#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "evaluate/generation/sampling.h"
#include "evaluate/tasks/choices.h"
#include "evaluate/tasks/csv.h"
#include "evaluate/tasks/mmlu.h"
#include "tests/core/temporary_folder.h"

namespace halftone::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TasksTest : public testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& text) {
    const fs::path path = folder_.path() / name;
    fs::create_directories(path.parent_path());
    write_text_file(path, text);
    return path;
  }

  std::vector<ChoiceQuestion> read(const std::string& task, const std::string& lines) {
    for (const ChoiceTask& one : choice_tasks()) {
      if (task == one.name) return read_choice_questions(one, write("lines.jsonl", lines), 0);
    }
    ADD_FAILURE() << "no task " << task;
    return {};
  }

  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> llama_ =
      load_tokenizer(fs::path(HALFTONE_TEST_DATA) / "tokenizers/llama-3");
};

TEST_F(TasksTest, CsvFields) {
  const auto records = read_csv(write("a.csv", "a,\"b, \"\"c\"\"\nd\",\r\n\n1,2,3"), 3);
  EXPECT_THAT(records,
              ElementsAre(ElementsAre("a", "b, \"c\"\nd", ""), ElementsAre("1", "2", "3")));
  EXPECT_THROW(read_csv(write("a.csv", "a,b\n"), 3), InputError);
  EXPECT_THROW(read_csv(write("a.csv", "a,\"b\n"), 2), InputError);
  EXPECT_THROW(read_csv(write("a.csv", "a,\"b\"c\n"), 2), InputError);
}

TEST_F(TasksTest, PromptsOfPublishedSets) {
  const auto arc = read(
      "arc_easy", R"({"question": "Why?", "choices": {"text": ["x", "y"], "label": ["1", "2"]},)"
                  R"( "answerKey": "2"})");
  EXPECT_EQ(arc[0].answers[1].context, "Question: Why?\nAnswer:");
  EXPECT_EQ(arc[0].answers[1].text, " y");
  EXPECT_TRUE(arc[0].answers[1].right);
  EXPECT_FALSE(arc[0].answers[0].right);
  const auto hellaswag = read(
      "hellaswag",
      R"({"activity_label": "Washing", "ctx_a": "A man. [title] He  sits", "ctx_b": "the Man",)"
      R"( "endings": ["[step] goes  on.", "é"], "label": "1"})");
  EXPECT_EQ(hellaswag[0].answers[0].context, "Washing: A man.. He sits The man");
  EXPECT_EQ(hellaswag[0].answers[0].text, "  goes on.");
  EXPECT_EQ(hellaswag[0].answers[1].length, 1);
  const auto winogrande =
      read("winogrande", R"({"sentence": "Ann thanked _ because she won.", "option1": "Eve",)"
                         R"( "option2": "Joe", "answer": "2"})");
  EXPECT_EQ(winogrande[0].answers[1].context, "Ann thanked Joe");
  EXPECT_EQ(winogrande[0].answers[1].text, " because she won.");
  const auto lambada = read("lambada", "{\"text\": \"one two three\"}\n");
  EXPECT_EQ(lambada[0].answers[0].context, "one two");
  EXPECT_EQ(lambada[0].answers[0].text, " three");
}

TEST_F(TasksTest, LinesThatLackSomething) {
  EXPECT_THROW(read("piqa", R"({"goal": "a", "sol1": "b", "sol2": "c", "label": 2})"), InputError);
  EXPECT_THROW(read("piqa", R"({"goal": "a", "sol1": "b", "label": 1})"), InputError);
  EXPECT_THROW(read("piqa", "[]"), InputError);
  EXPECT_THROW(read("piqa", "\n"), InputError);
  EXPECT_THROW(read("choice", R"({"context": "a", "choices": ["b"], "answer": 0})"), InputError);
  EXPECT_THROW(read("winogrande", R"({"sentence": "a", "option1": "b", "option2": "c"})"),
               InputError);
}

TEST_F(TasksTest, BlanksBelongToTheContinuation) {
  const EncodedPair pair = encode_pair(*llama_, {"The cat ", "sat", 3, true}, false, 100);
  EXPECT_EQ(pair.ids, llama_->encode("The cat sat", false));
  EXPECT_EQ(pair.first, static_cast<int64_t>(llama_->encode("The cat", false).size()));
  const EncodedPair empty = encode_pair(*llama_, {"", " sat", 3, true}, false, 100);
  EXPECT_EQ(empty.ids.front(), llama_->bos_id());
  EXPECT_EQ(empty.first, 1);
  const EncodedPair cut = encode_pair(*llama_, {"The cat ", "sat", 3, true}, false, 2);
  EXPECT_EQ(cut.ids.size(), 2u);
  EXPECT_THROW(encode_pair(*llama_, {"The cat", "", 0, true}, false, 100), InputError);
}

TEST_F(TasksTest, AccuraciesAndTheirErrors) {
  const ChoiceTask& task = choice_tasks()[0];
  std::vector<ChoiceQuestion> questions(3);
  for (ChoiceQuestion& question : questions) {
    question.answers = {{"c", " long answer", 11, true}, {"c", " no", 2, false}};
  }
  // Plain: right, wrong, right; by length: right, right, right.
  const std::vector<RowScore> scores = {{-3, 2, false}, {-4, 1, false}, {-5, 2, false},
                                        {-4, 1, false}, {-1, 2, false}, {-1, 1, false}};
  const Json result = choice_result(task, questions, scores);
  EXPECT_NEAR(result["value"].get<double>(), 2.0 / 3.0, 1e-12);
  EXPECT_NEAR(result["stderr"].get<double>(), 1.0 / 3.0, 1e-12);
  EXPECT_EQ(result["acc_norm"].get<double>(), 1.0);
}

TEST_F(TasksTest, MmluPrompts) {
  write("dev/abstract_algebra_dev.csv", "1+1?,1,2,3,4,B\n2+2?,1,2,3,4,D\n");
  write("test/abstract_algebra_test.csv", "\"3+0?\",1,2,3,4,C\nx,1,2,3,4,A\n");
  const MmluSet set = read_mmlu(folder_.path(), *llama_, {5, 4096, 1});
  ASSERT_EQ(set.questions.size(), 1u);
  EXPECT_EQ(
      llama_->decode(set.questions[0].prompt),
      "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
      "1+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n"
      "2+2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: D\n\n"
      "3+0?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:");
  // Fewer examples where the prompt would be too long, none where even that is.
  const auto whole = static_cast<int64_t>(set.questions[0].prompt.size());
  EXPECT_THAT(
      llama_->decode(read_mmlu(folder_.path(), *llama_, {5, whole - 1, 1}).questions[0].prompt),
      testing::Not(HasSubstr("2+2?")));
  EXPECT_TRUE(read_mmlu(folder_.path(), *llama_, {5, 10, 1}).questions[0].prompt.empty());
  const Json result = mmlu_result(set, {true});
  EXPECT_EQ(result["value"], 1.0);
  EXPECT_EQ(result["categories"]["STEM"], 1.0);
  EXPECT_TRUE(gives_answer(" C.", 'C'));
  EXPECT_FALSE(gives_answer("", 'C'));
  write("test/abstract_algebra_test.csv", "3+0?,1,2,3,4,E\n");
  EXPECT_THROW(read_mmlu(folder_.path(), *llama_, {5, 4096, 0}), InputError);
  EXPECT_THROW(read_mmlu(folder_.path() / "dev", *llama_, {}), InputError);
}

TEST(Sampling, DrawsAsOftenAsProbable) {
  const std::vector<float> logits = {0.0f, std::log(2.0f), std::log(5.0f), -30.0f};
  std::vector<int> counts(4);
  for (uint64_t step = 0; step < 8000; ++step) {
    ++counts[static_cast<size_t>(sample(logits, {1.0, 1.0, 0, 42}, 3, step))];
  }
  EXPECT_NEAR(counts[0], 1000, 120);
  EXPECT_NEAR(counts[1], 2000, 160);
  EXPECT_NEAR(counts[2], 5000, 180);
  EXPECT_EQ(counts[3], 0);
}

TEST(Sampling, LimitsTheChoice) {
  const std::vector<float> logits = {1.0f, 3.0f, 3.0f, 2.0f};
  EXPECT_EQ(sample(logits, {}, 0, 0), 1);
  for (uint64_t step = 0; step < 200; ++step) {
    EXPECT_EQ(sample(logits, {5.0, 1.0, 1, 7}, 0, step), 1);
    EXPECT_EQ(sample(logits, {5.0, 0.0, 0, 7}, 0, step), 1);
    const int64_t of_two = sample(logits, {5.0, 1.0, 2, 7}, 0, step);
    EXPECT_TRUE(of_two == 1 || of_two == 2);
    EXPECT_EQ(of_two, sample(logits, {5.0, 1.0, 2, 7}, 0, step));
  }
  EXPECT_THROW(sample(std::vector<float>{NAN, NAN}, {}, 0, 0), InputError);
}

}  // namespace
}  // namespace halftone::test
