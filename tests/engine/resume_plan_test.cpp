#include "engine/resume_plan.h"

#include <gtest/gtest.h>

#include <string>

namespace halftone::test {
namespace {

// One letter per stage: s skipped, p replayed, r run; "|" before the stage whose inputs are
// restored.
std::string plan_text(const std::string& finished, size_t saved, size_t computed,
                      bool can_replay = true) {
  std::vector<bool> done;
  for (const char letter : finished) done.push_back(letter == 'x');
  const ResumePlan plan = plan_resume(done, saved, computed, can_replay);
  std::string text;
  for (size_t s = 0; s < done.size(); ++s) {
    if (s == plan.restored_at) text += '|';
    text += plan.action(s) == StageAction::kSkip     ? 's'
            : plan.action(s) == StageAction::kReplay ? 'p'
                                                     : 'r';
  }
  return text;
}

TEST(ResumePlan, NothingIsFinished) {
  EXPECT_EQ(plan_text("------", 0, 6), "rrrrrr");
  EXPECT_EQ(ResumePlan().action(3), StageAction::kRun);
}

TEST(ResumePlan, GoesOnWhereTheStatesWereSaved) {
  EXPECT_EQ(plan_text("xxx---", 3, 6), "sss|rrr");
  EXPECT_EQ(plan_text("xxxxx-", 5, 6), "sssss|r");
}

TEST(ResumePlan, AllIsFinished) {
  EXPECT_EQ(plan_text("xxxxxx", 0, 6), "ssssss");
  EXPECT_EQ(plan_text("xxxxxx", 4, 6), "ssssss");
}

TEST(ResumePlan, StagesThatAreNotComputedNeedNoStates) {
  EXPECT_EQ(plan_text("xxxx--", 0, 0), "ssssrr");
  EXPECT_EQ(plan_text("xxxx--", 0, 4), "ssssrr");
  EXPECT_EQ(plan_text("xx-x--", 0, 2), "ssrsrr");
}

TEST(ResumePlan, ADamagedStageIsDoneOnceMore) {
  EXPECT_EQ(plan_text("x-xx--", 4, 6), "prss|rr");
  EXPECT_EQ(plan_text("-xxx--", 4, 6), "rsss|rr");
  EXPECT_EQ(plan_text("-xx-x-", 5, 6), "rpprs|r");
  EXPECT_EQ(plan_text("x-xxxx", 0, 6), "prssss");
}

TEST(ResumePlan, WithoutStatesWhatIsFinishedIsReplayed) {
  EXPECT_EQ(plan_text("xxx---", 0, 6), "ppprrr");
  EXPECT_EQ(plan_text("xxx---", 0, 5), "ppprrr");
}

TEST(ResumePlan, WhatCannotBeReplayedIsRun) {
  EXPECT_EQ(plan_text("xxx---", 3, 6, false), "sss|rrr");
  EXPECT_EQ(plan_text("xxx---", 0, 6, false), "rrrrrr");
  EXPECT_EQ(plan_text("x-xx--", 4, 6, false), "rrss|rr");
}

}  // namespace
}  // namespace halftone::test
