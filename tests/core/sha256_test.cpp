#include "core/sha256.h"

#include <gtest/gtest.h>

#include "tests/core/temporary_folder.h"

namespace halftone {
namespace {

constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Sha256Test, GivesThePublishedSums) {
  EXPECT_EQ(sha256_of_bytes("", 0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of_bytes("abc", 3), kAbc);
  Sha256 sum;
  sum.update("a", 1);
  sum.update("bc", 2);
  EXPECT_EQ(sum.hex(), kAbc);
}

TEST(Sha256Test, SumsFilesAndFolders) {
  const TemporaryFolder folder;
  EXPECT_EQ(sha256_of_file(folder.write("a", "abc")), kAbc);
  const std::string digest = digest_of_directory(folder.path());
  const std::string line = std::string("a\n") + kAbc + "\n";
  EXPECT_EQ(digest, sha256_of_bytes(line.data(), line.size()));
  folder.write("summary.json", "{}");
  EXPECT_EQ(digest_of_directory(folder.path()), digest);
  folder.write("b", "");
  EXPECT_NE(digest_of_directory(folder.path()), digest);
}

}  // namespace
}  // namespace halftone
