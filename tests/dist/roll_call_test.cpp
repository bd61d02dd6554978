#include "dist/roll_call.h"

#include <gtest/gtest.h>

namespace halftone {
namespace {

using namespace std::chrono_literals;

class RollCallTest : public testing::Test {
 protected:
  RollCall list_of(int rank) const { return {rank, {"a", "a", "b", "b"}, start_}; }
  static ActivityState doing(Activity& activity, const char* stage, const char* step) {
    activity.begin_stage(stage);
    activity.begin_step(step);
    return activity.now();
  }

  RollCall::Time start_ = RollCall::Time::clock::now();
};

TEST_F(RollCallTest, NewerReportsWinAndOlderOnesDoNot) {
  RollCall mine = list_of(0);
  RollCall other = list_of(3);
  Activity activity;
  other.beat(doing(activity, "calibrate layer 1", "forward"));
  const std::vector<RankReport> old(other.reports().begin(), other.reports().end());
  other.beat(doing(activity, "calibrate layer 2", "load"));
  mine.merge(other.reports(), start_ + 1s);
  mine.merge(old, start_ + 2s);
  EXPECT_EQ(mine.reports()[3].activity.where(), "load of calibrate layer 2");
  // The old list does not count as a sign of life.
  mine.note_silence(start_ + 3500ms, 2s);
  ASSERT_TRUE(mine.lost().has_value());
  EXPECT_EQ(mine.reports()[3].standing, Standing::kSilent);
}

TEST_F(RollCallTest, ReportsArriveThroughOthers) {
  RollCall first = list_of(0);
  RollCall second = list_of(1);
  RollCall third = list_of(2);
  first.beat({});
  second.merge(first.reports(), start_ + 1s);
  second.beat({});
  third.merge(second.reports(), start_ + 1s);
  third.note_silence(start_ + 2s, 1500ms);
  EXPECT_EQ(third.reports()[0].standing, Standing::kRunning);
  EXPECT_EQ(third.reports()[1].standing, Standing::kRunning);
  EXPECT_EQ(third.lost(), 3);
}

TEST_F(RollCallTest, LossesAreNewsOnceAndStay) {
  RollCall first = list_of(0);
  RollCall second = list_of(1);
  EXPECT_TRUE(first.set_standing(2, Standing::kGone, 0));
  EXPECT_FALSE(first.set_standing(2, Standing::kSilent, 9));
  EXPECT_TRUE(second.merge(first.reports(), start_));
  EXPECT_FALSE(second.merge(first.reports(), start_));
  EXPECT_EQ(second.lost(), 2);
  EXPECT_EQ(second.first_alive(), 0);
  RollCall late = list_of(3);
  late.beat({});
  second.merge(late.reports(), start_ + 1s);
  EXPECT_EQ(second.lost(), 2);
}

TEST_F(RollCallTest, DoneWhenAllAre) {
  RollCall list = list_of(0);
  for (int r = 0; r < 4; ++r) {
    EXPECT_FALSE(list.all_done());
    list.set_standing(r, Standing::kDone, 0);
  }
  EXPECT_TRUE(list.all_done());
  EXPECT_TRUE(list.set_standing(1, Standing::kFailed, 3));
  EXPECT_FALSE(list.all_done());
  EXPECT_EQ(list.failed(), 1);
}

TEST_F(RollCallTest, ForgivesWhatItCouldNotHear) {
  RollCall list = list_of(0);
  list.forgive(start_ + 100s);
  list.note_silence(start_ + 101s, 60s);
  EXPECT_FALSE(list.lost().has_value());
}

TEST_F(RollCallTest, NamesTheLostRankAndItself) {
  RollCall mine = list_of(0);
  RollCall other = list_of(3);
  Activity theirs;
  theirs.begin_stage("calibrate layer 12");
  const Activity::Collective collective(&theirs, "all-gather");
  other.beat(theirs.now());
  mine.merge(other.reports(), start_);
  ActivityState state = theirs.now();
  state.milliseconds = 58'000;
  mine.set_activity(state);
  mine.set_standing(3, Standing::kSilent, 60'400);
  EXPECT_EQ(mine.describe_loss(3),
            "rank 3 on host b was last heard of 60 s ago, in all-gather of calibrate layer 12; "
            "rank 0 has waited 58 s in all-gather of calibrate layer 12");
}

TEST_F(RollCallTest, OrphansAreLostForThatReason) {
  RollCall mine = list_of(0);
  RollCall other = list_of(3);
  Activity theirs;
  other.beat(doing(theirs, "calibrate layer 1", "forward"));
  EXPECT_TRUE(other.set_standing(3, Standing::kOrphan, 0));
  mine.set_standing(3, Standing::kGone, 0);
  EXPECT_FALSE(mine.has_orphans());
  EXPECT_TRUE(mine.merge(other.reports(), start_)) << "that the process ended is not the cause";
  EXPECT_TRUE(mine.has_orphans());
  EXPECT_EQ(mine.lost_ranks(), std::vector<int>{3});
  for (const RollCall& list : {mine, other}) {
    EXPECT_EQ(list.describe_loss(3).rfind(
                  "rank 3 on host b has lost its launcher (mpirun, or its daemon on that host, "
                  "ended), last seen in forward of calibrate layer 1; rank ",
                  0),
              0)
        << list.describe_loss(3);
  }
}

TEST_F(RollCallTest, NamesQuietRanksTheLongestSilentFirst) {
  RollCall mine = list_of(0);
  RollCall other = list_of(2);
  Activity theirs;
  other.beat(doing(theirs, "finish", "load"));
  mine.merge(other.reports(), start_ + 1s);
  const std::vector<int> alive = {1};
  EXPECT_EQ(mine.describe_quiet(2s, start_ + 3500ms, alive),
            "rank 3 on host b (3.5 s ago, in the start), rank 2 on host b (2.5 s ago, in load of "
            "finish)");
  EXPECT_EQ(mine.describe_quiet(3s, start_ + 3500ms, alive),
            "rank 3 on host b (3.5 s ago, in the start)");
}

TEST_F(RollCallTest, TheFirstWaitingRankNamesTheAbsentOne) {
  Activity absent;
  Activity waiting;
  waiting.begin_stage("calibrate layer 12");
  const Activity::Collective collective(&waiting, "all-gather");
  ActivityState computes = doing(absent, "calibrate layer 12", "forward");
  computes.milliseconds = 40'000;
  ActivityState waits = waiting.now();
  waits.milliseconds = 31'000;

  std::vector<RollCall> lists;
  for (int r = 0; r < 4; ++r) {
    lists.push_back(list_of(r));
    lists.back().beat(r == 3 ? computes : waits);
  }
  for (RollCall& list : lists) {
    for (const RollCall& other : lists) list.merge(other.reports(), start_);
  }
  EXPECT_EQ(lists[0].describe_wait(30s, start_),
            "rank 3 on host b has computed 40 s in forward of calibrate layer 12 while ranks 0-2 "
            "wait in all-gather of calibrate layer 12");
  EXPECT_EQ(lists[0].describe_wait(32s, start_), "");
  EXPECT_EQ(lists[1].describe_wait(30s, start_), "");
  EXPECT_EQ(lists[3].describe_wait(30s, start_), "");
}

TEST(Activity, TellsTheOldestCollectiveUnderWay) {
  Activity activity;
  EXPECT_EQ(activity.now().where(), "the start");
  activity.begin_stage("finish");
  EXPECT_EQ(activity.now().where(), "finish");
  {
    const Activity::Collective first(&activity, "all-gather");
    const Activity::Collective second(&activity, "barrier");
    EXPECT_EQ(activity.now().where(), "all-gather of finish");
  }
  EXPECT_FALSE(activity.now().waits());
  EXPECT_EQ(activity.now().collectives, 2);
  activity.begin_stage(std::string(1000, 'x'));
  EXPECT_EQ(activity.now().where(), std::string(63, 'x'));
}

}  // namespace
}  // namespace halftone
