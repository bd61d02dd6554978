#pragma once

#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "text/tokenizer.h"

namespace halftone {

// MMLU (Hendrycks et al. 2021) as calibration.md, 12.1 has it: `shots` examples of the subject,
// then the question; the model is right when the first two tokens that it goes on with, stripped,
// begin with the answer's letter.
struct MmluQuestion {
  size_t subject = 0;
  std::vector<TokenId> prompt;  // empty: too long even without examples, and not counted
  char answer = 'A';
};

struct MmluSet {
  std::vector<std::string> subjects;  // sorted
  std::vector<MmluQuestion> questions;
};

struct MmluOptions {
  int64_t shots = 5;
  int64_t length = 4096;  // of a prompt: it has fewer examples where it would be longer
  int64_t limit = 0;      // the first questions of each subject, 0: all
};

// `folder`: dev/SUBJECT_dev.csv and test/SUBJECT_test.csv of the published data. What is missing or
// malformed is an InputError.
MmluSet read_mmlu(const fs::path& folder, const Tokenizer& tokenizer, const MmluOptions& options);

// Whether a continuation gives the answer.
bool gives_answer(const std::string& continuation, char answer);

// {"value", "stderr", "n", "skipped", "subjects", "subcategories", "categories"}: shares of right
// answers, the value over all questions. `right`: of the questions with a prompt, in order.
Json mmlu_result(const MmluSet& set, const std::vector<bool>& right);

}  // namespace halftone
