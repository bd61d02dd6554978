#include "core/error.h"

#include <gtest/gtest.h>

namespace halftone {
namespace {

TEST(ErrorTest, CarriesItsExitCode) {
  EXPECT_EQ(UsageError("x").code(), ExitCode::kUsage);
  EXPECT_EQ(InputError("x").code(), ExitCode::kInput);
  EXPECT_EQ(ResourceError("x").code(), ExitCode::kResources);
  EXPECT_EQ(PeerError("x").code(), ExitCode::kPeer);
  EXPECT_EQ(VerificationError("x").code(), ExitCode::kVerification);
  EXPECT_EQ(static_cast<int>(StoppedError("x").code()), 75);
}

TEST(ErrorTest, RankAndInnermostPhaseStandBeforeTheText) {
  InputError error("config.json: broken");
  EXPECT_STREQ(error.what(), "config.json: broken");
  error.set_phase("calibrate layer 7");
  error.set_phase("quantize");
  EXPECT_STREQ(error.what(), "calibrate layer 7: config.json: broken");
  error.set_rank(2);
  EXPECT_STREQ(error.what(), "rank 2, calibrate layer 7: config.json: broken");
}

}  // namespace
}  // namespace halftone
