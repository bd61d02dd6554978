#pragma once

#include <string>
#include <vector>

#include "core/files.h"

namespace halftone {

class ChoiceLine;

// One way to go on, and what stands in front of it.
struct Continuation {
  std::string context;  // empty: the model's first token alone
  std::string text;     // as it is scored, with the blank that separates it
  int64_t length = 0;   // characters by which its log-probability is normalized
  bool right = false;
};

// A question whose answers are ranked by their log-probabilities; of a text without alternatives
// (LAMBADA) whether it is the most probable one.
struct ChoiceQuestion {
  std::vector<Continuation> answers;
};

enum class ChoiceScore : uint8_t {
  kAccuracy,        // plain and length-normalized
  kPlainAccuracy,   // plain alone
  kProbabilityMass  // of the right ones, among all
};

// A task in the manner of EleutherAI's lm-evaluation-harness 0.4: its prompts, word for word.
struct ChoiceTask {
  const char* name;
  const char* fields;  // of a line, for messages and help
  ChoiceScore score;
  // The question of one line of the data set as it is published.
  ChoiceQuestion (*read)(const ChoiceLine& line);
};

// arc_challenge, arc_easy, hellaswag, lambada, piqa, truthfulqa_mc1, truthfulqa_mc2, winogrande,
// and `choice`: {"context", "choices", "answer"} of one's own.
const std::vector<ChoiceTask>& choice_tasks();

// The first `limit` questions of a JSONL file, 0: all. What a line lacks is an InputError with file
// and line.
std::vector<ChoiceQuestion> read_choice_questions(const ChoiceTask& task, const fs::path& path,
                                                  int64_t limit);

}  // namespace halftone
