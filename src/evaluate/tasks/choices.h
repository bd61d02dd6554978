#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "evaluate/tasks/choice_files.h"
#include "evaluate/tasks/scoring.h"
#include "text/tokenizer.h"

namespace halftone {

// Ids of a context and its continuation as lm-eval splits them: blanks at the context's end belong
// to the continuation, and its ids are those of the whole behind as many as the context alone has.
struct EncodedPair {
  std::vector<TokenId> ids;
  int64_t first = 0;  // of the continuation
};
// `add_bos`: in front of every context. An empty context is the tokenizer's bos, else its eos. Ids
// beyond `length` are cut on the left. InputError where nothing is left to score.
EncodedPair encode_pair(const Tokenizer& tokenizer, const Continuation& continuation, bool add_bos,
                        int64_t length);

struct Mean {
  double value = 0.0;
  double stderr_of_mean = 0.0;  // sample standard deviation / sqrt(n)
};
Mean mean_of(const std::vector<double>& values);

// {"value", "stderr", "n"} and, where the task has them, "acc_norm" and "acc_norm_stderr", or
// "perplexity". `scores`: of all answers of all questions, in order.
Json choice_result(const ChoiceTask& task, const std::vector<ChoiceQuestion>& questions,
                   const std::vector<RowScore>& scores);

}  // namespace halftone
