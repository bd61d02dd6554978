#include "dist/workspace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/core/temporary_folder.h"

namespace halftone::test {
namespace {

class WorkspaceTest : public testing::Test {
 protected:
  WorkspaceTest() : workspace_(folder_.path() / "run") { workspace_.create(); }
  fs::path manifest() const { return workspace_.folder() / "manifest.json"; }
  void rewrite(const std::string& text) const {
    File file = File::create(manifest());
    file.write_at(0, text.data(), static_cast<int64_t>(text.size()));
  }

  TemporaryFolder folder_;
  Workspace workspace_;
};

TEST_F(WorkspaceTest, KeepsAManifest) {
  EXPECT_FALSE(workspace_.has_manifest());
  EXPECT_FALSE(workspace_.read_manifest().has_value());
  const Json first{{"stage", 3}, {"share", 0.1}, {"name", "a \"b\"\n"}};
  workspace_.write_manifest(first);
  EXPECT_EQ(workspace_.read_manifest(), first);
  const Json second{{"stage", 4}};
  workspace_.write_manifest(second);
  EXPECT_EQ(workspace_.read_manifest(), second);
  workspace_.remove_manifest();
  EXPECT_FALSE(workspace_.has_manifest());
  workspace_.remove_manifest();
}

TEST_F(WorkspaceTest, ADamagedManifestIsNone) {
  workspace_.write_manifest({{"stage", 3}, {"text", "abc"}});
  const std::string good = read_text_file(manifest());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    rewrite(bad);
    EXPECT_FALSE(workspace_.read_manifest().has_value()) << "bit of byte " << i;
    rewrite(good.substr(0, i));
    EXPECT_FALSE(workspace_.read_manifest().has_value()) << "cut at " << i;
  }
  rewrite(good);
  EXPECT_TRUE(workspace_.read_manifest().has_value());
}

TEST_F(WorkspaceTest, NamesStayInside) {
  EXPECT_EQ(workspace_.path("stages/0001.h5"), workspace_.folder() / "stages" / "0001.h5");
  for (const char* name : {"", "/etc/passwd", "..", "a/../../b", "../x"}) {
    EXPECT_THROW(workspace_.path(name), InputError) << name;
  }
}

TEST_F(WorkspaceTest, AFolderThatCannotBeMade) {
  rewrite("x");
  EXPECT_THROW(Workspace(manifest() / "below").create(), ResourceError);
}

TEST_F(WorkspaceTest, SomebodyElsesFolder) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  ASSERT_EQ(::chown(workspace_.folder().c_str(), 12345, 12345), 0);
  try {
    workspace_.create();
    FAIL() << "a folder of user 12345 was accepted";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("user 12345"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace halftone::test
