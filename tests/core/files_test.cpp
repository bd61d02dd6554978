#include "core/files.h"

#include <gtest/gtest.h>

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
