#include "evaluate/tasks/mmlu.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/log.h"
#include "evaluate/tasks/choices.h"
#include "evaluate/tasks/csv.h"
#include "evaluate/tasks/mmlu_subjects.h"

namespace halftone {
namespace {

constexpr const char* kTestSuffix = "_test.csv";
constexpr size_t kFields = 6;  // question, four choices, answer

using Record = std::vector<std::string>;

std::vector<std::string> subjects_of(const fs::path& folder) {
  std::vector<std::string> subjects;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "test", error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kTestSuffix)) {
      subjects.push_back(name.substr(0, name.size() - std::string(kTestSuffix).size()));
    }
  }
  if (error || subjects.empty()) {
    throw InputError(concat("'", folder.string(),
                            "' is no folder of MMLU: there is no test/SUBJECT", kTestSuffix));
  }
  std::sort(subjects.begin(), subjects.end());
  return subjects;
}

std::string asked(const Record& record) {
  std::string text = record[0];
  for (size_t i = 0; i < 4; ++i) {
    text += concat("\n", std::string(1, static_cast<char>('A' + i)), ". ", record[i + 1]);
  }
  return text + "\nAnswer:";
}

std::string introduction(std::string subject) {
  std::replace(subject.begin(), subject.end(), '_', ' ');
  return "The following are multiple choice questions (with answers) about  " + subject + ".\n\n";
}

std::vector<TokenId> prompt_of(const std::string& subject, const std::vector<Record>& examples,
                               const Record& question, const Tokenizer& tokenizer,
                               const MmluOptions& options) {
  int64_t shots = std::min(options.shots, std::ssize(examples));
  for (; shots >= 0; --shots) {
    std::string text = introduction(subject);
    for (int64_t i = 0; i < shots; ++i) {
      const Record& example = examples[static_cast<size_t>(i)];
      text += asked(example) + " " + example[5] + "\n\n";
    }
    std::vector<TokenId> ids = tokenizer.encode(text + asked(question));
    if (std::ssize(ids) <= options.length) return ids;
  }
  return {};
}

void check_answer(const fs::path& path, const Record& record) {
  if (record[5].size() == 1 && record[5][0] >= 'A' && record[5][0] <= 'D') return;
  throw InputError(concat("'", path.string(), "': an answer is '", record[5].substr(0, 40),
                          "'; expected A, B, C or D"));
}

struct Count {
  int64_t right = 0, all = 0;
  Json share() const {
    return all == 0 ? Json() : Json(static_cast<double>(right) / static_cast<double>(all));
  }
};

Json shares_of(const std::map<std::string, Count>& counts) {
  Json shares = Json::object();
  for (const auto& [name, count] : counts) shares[name] = count.share();
  return shares;
}

}  // namespace

MmluSet read_mmlu(const fs::path& folder, const Tokenizer& tokenizer, const MmluOptions& options) {
  MmluSet set;
  set.subjects = subjects_of(folder);
  for (size_t subject = 0; subject < set.subjects.size(); ++subject) {
    const std::string& name = set.subjects[subject];
    const fs::path dev = folder / "dev" / (name + "_dev.csv");
    const fs::path test = folder / "test" / (name + kTestSuffix);
    const std::vector<Record> examples = read_csv(dev, kFields);
    for (const Record& example : examples) check_answer(dev, example);
    int64_t taken = 0;
    for (const Record& question : read_csv(test, kFields)) {
      if (options.limit > 0 && taken++ == options.limit) break;
      check_answer(test, question);
      set.questions.push_back(
          {subject, prompt_of(name, examples, question, tokenizer, options), question[5][0]});
    }
  }
  return set;
}

bool gives_answer(const std::string& continuation, char answer) {
  const size_t begin = continuation.find_first_not_of(" \t\r\n\f\v");
  return begin != std::string::npos && continuation[begin] == answer;
}

Json mmlu_result(const MmluSet& set, const std::vector<bool>& right) {
  std::map<std::string, Count> subjects, subcategories, categories;
  std::vector<double> values;
  int64_t skipped = 0;
  for (const std::string& subject : set.subjects) subjects[subject] = {};
  for (const MmluQuestion& question : set.questions) {
    if (question.prompt.empty()) {
      ++skipped;
      continue;
    }
    const std::string& subject = set.subjects[question.subject];
    const MmluSubject* known = mmlu_subject(subject);
    std::vector<Count*> counts = {&subjects[subject]};
    if (known != nullptr) counts.push_back(&subcategories[known->subcategory]);
    if (known != nullptr) counts.push_back(&categories[known->category]);
    const bool hit = right[values.size()];
    values.push_back(hit ? 1.0 : 0.0);
    for (Count* count : counts) {
      count->right += hit ? 1 : 0;
      ++count->all;
    }
  }
  const Mean mean = mean_of(values);
  return {{"value", mean.value},
          {"stderr", mean.stderr_of_mean},
          {"n", values.size()},
          {"skipped", skipped},
          {"subjects", shares_of(subjects)},
          {"subcategories", shares_of(subcategories)},
          {"categories", shares_of(categories)}};
}

}  // namespace halftone
