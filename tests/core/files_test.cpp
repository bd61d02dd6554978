#include "core/files.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/core/temporary_folder.h"

namespace halftone {
namespace {

TEST(FilesTest, ReadsWhatItWrote) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("a.txt", "first\nsecond");
  EXPECT_EQ(read_text_file(path), "first\nsecond");
  EXPECT_FALSE(fs::exists(path.string() + ".tmp"));
  const fs::path copy = folder.path() / "copy";
  copy_file_synced(path, copy);
  EXPECT_EQ(read_text_file(copy), "first\nsecond");
}

TEST(FilesTest, WritesAtOffsets) {
  const TemporaryFolder folder;
  File file = File::create(folder.path() / "b");
  file.reserve(8);
  file.write_at(4, "5678", 4);
  file.write_at(0, "1234", 4);
  file.close();
  EXPECT_EQ(read_text_file(folder.path() / "b"), "12345678");
}

// Every alignment of a transfer's ends, with neighbours that must stay as they are.
TEST(FilesTest, PastTheCacheEveryByteLandsWhereItBelongs) {
  const TemporaryFolder folder;
  constexpr int64_t kBytes = 9 << 20;
  std::string expected(kBytes, '\0');
  for (int64_t i = 0; i < kBytes; ++i) expected[static_cast<size_t>(i)] = static_cast<char>(i * 7);
  File file = File::create(folder.path() / "c");
  file.reserve(kBytes);
  file.bypass_cache();
  const std::vector<int64_t> ends{0, 5, 4096, 300'001, 1 << 20, (6 << 20) + 77, kBytes};
  for (size_t i = ends.size() - 1; i > 0; --i) {
    file.write_at(ends[i - 1], expected.data() + ends[i - 1], ends[i] - ends[i - 1]);
  }
  file.sync();
  EXPECT_EQ(read_text_file(folder.path() / "c"), expected);
  for (size_t i = 0; i + 1 < ends.size(); ++i) {
    std::string part(static_cast<size_t>(kBytes - ends[i]), '\0');
    file.read_at(ends[i], part.data(), kBytes - ends[i]);
    EXPECT_EQ(part, expected.substr(static_cast<size_t>(ends[i])));
  }
  std::string beyond(1 << 20, '\0');
  expect_error<InputError>([&] { file.read_at(kBytes - 512, beyond.data(), 1 << 20); }, "ends at");
}

TEST(FilesTest, ErrorsNameTheFile) {
  const TemporaryFolder folder;
  const fs::path absent = folder.path() / "absent";
  expect_error<InputError>([&] { read_text_file(absent); }, absent.string());
  expect_error<InputError>([&] { read_text_file(folder.path()); }, "not a regular file");
  expect_error<ResourceError>([&] { File::create(absent / "x"); }, "absent/x");
  const fs::path small = folder.write("small", "1234");
  expect_error<InputError>([&] { read_text_file(small, 3); }, "more than the 3");
  char byte[8];
  expect_error<InputError>([&] { File::open_for_reading(small).read_at(0, byte, 8); },
                           "ends at byte 4");
}

}  // namespace
}  // namespace halftone
