#include "dist/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/log.h"
#include "tests/support/mpi_world.h"

namespace halftone {
namespace {

using testing::HasSubstr;

class AgreementTest : public testing::Test {
 protected:
  // What require_same says, or nothing.
  std::string complaint(const std::string& value) {
    try {
      require_same(*communicator_, "--format", value);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  }

  std::unique_ptr<Communicator> communicator_ = make_mpi_communicator(test_world());
};

TEST_F(AgreementTest, AcceptsEqualValues) {
  EXPECT_EQ(complaint("fp8"), "");
  EXPECT_EQ(complaint(""), "");
  EXPECT_EQ(complaint(std::string(100000, 'x')), "");
}

TEST_F(AgreementTest, NamesTheFirstRankThatDiffersOnEveryRank) {
  const int last = communicator_->size() - 1;
  if (last == 0) GTEST_SKIP() << "one rank always agrees";
  const std::string said = complaint(communicator_->rank() == last ? "nvfp4" : "fp8");
  EXPECT_EQ(said, concat("all ranks need the same --format, but rank 0 has 'fp8' and rank ", last,
                         " has 'nvfp4'"));
  EXPECT_THAT(complaint(communicator_->rank() == 0 ? "fp8" : ""), HasSubstr("rank 1 has ''"));
}

TEST_F(AgreementTest, ShortensLongValues) {
  if (communicator_->size() == 1) GTEST_SKIP() << "one rank always agrees";
  const std::string long_text(5000, communicator_->rank() == 0 ? 'a' : 'b');
  const std::string said = complaint(long_text);
  EXPECT_THAT(said, HasSubstr("bbb...' (5000 characters)"));
  EXPECT_LT(said.size(), 500u);
}

TEST_F(AgreementTest, BroadcastsTexts) {
  for (int root = 0; root < communicator_->size(); ++root) {
    const std::string mine = concat("text of rank ", communicator_->rank(), std::string(300, '.'));
    EXPECT_EQ(broadcast_text(*communicator_, mine, root),
              concat("text of rank ", root, std::string(300, '.')));
    EXPECT_EQ(broadcast_text(*communicator_, communicator_->rank() == root ? "" : "x", root), "");
  }
}

}  // namespace
}  // namespace halftone
