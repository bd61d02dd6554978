#include "evaluate/tasks/choices.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/error.h"
#include "core/log.h"
#include "kernels/check.h"

namespace halftone {
namespace {

using Answers = std::span<const Continuation>;
using Scores = std::span<const RowScore>;

// Whether the answer of the greatest value (the first of equal ones) is right.
double hits(Answers answers, const std::vector<double>& values) {
  const auto best = std::max_element(values.begin(), values.end()) - values.begin();
  return answers[static_cast<size_t>(best)].right ? 1.0 : 0.0;
}

double plain_accuracy(Answers answers, Scores scores) {
  if (answers.size() == 1) return scores[0].greedy ? 1.0 : 0.0;
  std::vector<double> values;
  for (const RowScore& score : scores) values.push_back(score.log_probability);
  return hits(answers, values);
}

double normalized_accuracy(Answers answers, Scores scores) {
  std::vector<double> values;
  for (size_t i = 0; i < scores.size(); ++i) {
    values.push_back(scores[i].log_probability / static_cast<double>(answers[i].length));
  }
  return hits(answers, values);
}

double probability_mass(Answers answers, Scores scores) {
  double greatest = scores[0].log_probability;
  for (const RowScore& score : scores) greatest = std::max(greatest, score.log_probability);
  double right = 0.0, all = 0.0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double probability = std::exp(scores[i].log_probability - greatest);
    all += probability;
    if (answers[i].right) right += probability;
  }
  return right / all;
}

}  // namespace

EncodedPair encode_pair(const Tokenizer& tokenizer, const Continuation& continuation, bool add_bos,
                        int64_t length) {
  const size_t end = continuation.context.find_last_not_of(" \t\r\n\f\v") + 1;  // npos + 1 is 0
  const std::string context = continuation.context.substr(0, end);
  const std::string text = continuation.context.substr(end) + continuation.text;
  std::vector<TokenId> front = tokenizer.encode(context, /*add_special=*/false);
  EncodedPair pair;
  if (add_bos || front.empty()) {
    const std::optional<TokenId> first =
        tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
    if (!first) throw InputError("the tokenizer has neither bos nor eos to begin a text with");
    pair.ids.push_back(*first);
  }
  pair.first = std::ssize(pair.ids) + std::ssize(front);
  const std::vector<TokenId> whole = tokenizer.encode(context + text, /*add_special=*/false);
  pair.ids.insert(pair.ids.end(), whole.begin(), whole.end());
  const int64_t excess = std::ssize(pair.ids) - length;
  if (excess > 0) {
    pair.ids.erase(pair.ids.begin(), pair.ids.begin() + excess);
    pair.first = std::max<int64_t>(1, pair.first - excess);
  }
  if (pair.first >= std::ssize(pair.ids)) {
    throw InputError(concat("nothing follows the context '...",
                            context.substr(context.size() - std::min<size_t>(context.size(), 40)),
                            "'"));
  }
  return pair;
}

Mean mean_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Mean mean;
  for (double value : values) mean.value += value / n;
  if (values.size() < 2) return mean;
  double squares = 0.0;
  for (double value : values) squares += (value - mean.value) * (value - mean.value);
  mean.stderr_of_mean = std::sqrt(squares / (n - 1.0) / n);
  return mean;
}

Json choice_result(const ChoiceTask& task, const std::vector<ChoiceQuestion>& questions,
                   const std::vector<RowScore>& scores) {
  std::vector<double> plain, normalized, log_probabilities;
  size_t begin = 0;
  for (const ChoiceQuestion& question : questions) {
    const Answers answers = question.answers;
    const Scores own = Scores(scores).subspan(begin, answers.size());
    begin += answers.size();
    plain.push_back(task.score == ChoiceScore::kProbabilityMass ? probability_mass(answers, own)
                                                                : plain_accuracy(answers, own));
    normalized.push_back(normalized_accuracy(answers, own));
    log_probabilities.push_back(own[0].log_probability);
  }
  check(begin == scores.size(), "each answer has a score");
  const Mean mean = mean_of(plain);
  Json result = {{"value", mean.value}, {"stderr", mean.stderr_of_mean}, {"n", questions.size()}};
  if (task.score == ChoiceScore::kAccuracy) {
    const Mean of_normalized = mean_of(normalized);
    result["acc_norm"] = of_normalized.value;
    result["acc_norm_stderr"] = of_normalized.stderr_of_mean;
  }
  if (questions[0].answers.size() == 1) {
    result["perplexity"] = std::exp(-mean_of(log_probabilities).value);
  }
  return result;
}

}  // namespace halftone
