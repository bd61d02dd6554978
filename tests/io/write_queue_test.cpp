#include "io/write_queue.h"

#include <future>

#include "support.h"
#include "tests/io/held_bytes.h"

namespace halftone {
namespace {

using testing::HasSubstr;

using test::held;

// A file opened for reading stands for a failing disk.
class WriteQueueTest : public testing::Test {
 protected:
  // Writing to it fails with EBADF.
  File failing_file() {
    test::write_file(folder_ / "read_only", "x");
    return File::open_for_reading(folder_ / "read_only");
  }

  test::TemporaryFolder folder_;
};

TEST_F(WriteQueueTest, WritesEverythingInItsPlace) {
  constexpr int kParts = 200;
  constexpr int64_t kBytes = 1000;
  File file = File::create(folder_ / "out");
  WriteQueue queue(3 * kBytes);
  for (int i = kParts - 1; i >= 0; --i) {
    queue.write(file, i * kBytes, held(std::vector<char>(kBytes, static_cast<char>(i))));
  }
  queue.drain();
  EXPECT_EQ(queue.bytes_written(), kParts * kBytes);
  EXPECT_GT(queue.seconds_writing(), 0.0);
  const std::string text = read_text_file(folder_ / "out");
  ASSERT_EQ(text.size(), static_cast<size_t>(kParts * kBytes));
  for (size_t i = 0; i < text.size(); ++i) {
    ASSERT_EQ(text[i], static_cast<char>(i / kBytes)) << i;
  }
}

TEST_F(WriteQueueTest, DrainsAgainAndAgain) {
  File file = File::create(folder_ / "out");
  WriteQueue queue(10);
  queue.drain();
  queue.write(file, 0, held({'a'}));
  queue.drain();
  EXPECT_EQ(read_text_file(folder_ / "out"), "a");
  queue.write(file, 1, held({}));
  queue.write(file, 1, held({'b'}));
  queue.drain();
  EXPECT_EQ(read_text_file(folder_ / "out"), "ab");
  EXPECT_EQ(queue.bytes_written(), 2);
}

TEST_F(WriteQueueTest, LetsALargerBufferThrough) {
  File file = File::create(folder_ / "out");
  WriteQueue queue(10);
  queue.write(file, 0, held(std::vector<char>(7, 'a')));
  queue.write(file, 7, held(std::vector<char>(1 << 20, 'b')));
  queue.write(file, 7 + (1 << 20), held(std::vector<char>(7, 'c')));
  queue.drain();
  EXPECT_EQ(fs::file_size(folder_ / "out"), 14u + (1u << 20));
}

// Without the bound all writes are taken at once; with it, when the last but one is taken, all
// before are on disk.
TEST_F(WriteQueueTest, HoldsNoMoreThanItsLimit) {
  constexpr int64_t kBytes = 1 << 16;
  File file = File::create(folder_ / "out");
  WriteQueue queue(2 * kBytes);
  for (int64_t i = 0; i < 300; ++i) {
    queue.write(file, i * kBytes, held(std::vector<char>(kBytes, 'x')));
    ASSERT_GE(queue.bytes_written(), (i + 1) * kBytes - 2 * kBytes);
  }
  queue.drain();
}

TEST_F(WriteQueueTest, TakesWritesFromSeveralThreads) {
  constexpr int kThreads = 4;
  constexpr int kEach = 100;
  File file = File::create(folder_ / "out");
  WriteQueue queue(64);
  std::vector<std::future<void>> producers;
  for (int t = 0; t < kThreads; ++t) {
    producers.push_back(std::async(std::launch::async, [&, t] {
      for (int i = 0; i < kEach; ++i) {
        queue.write(file, (i * kThreads + t) * 10,
                    held(std::vector<char>(10, static_cast<char>('a' + t))));
      }
    }));
  }
  for (auto& producer : producers) producer.get();
  queue.drain();
  const std::string text = read_text_file(folder_ / "out");
  ASSERT_EQ(text.size(), static_cast<size_t>(kThreads * kEach * 10));
  for (size_t i = 0; i < text.size(); ++i) {
    ASSERT_EQ(text[i], static_cast<char>('a' + i / 10 % kThreads)) << i;
  }
}

TEST_F(WriteQueueTest, KeepsTheFirstFailure) {
  File bad = failing_file();
  File good = File::create(folder_ / "out");
  WriteQueue queue(100);
  queue.write(bad, 0, held({'a'}));
  EXPECT_THAT(test::message_of<ResourceError>([&] { queue.drain(); }), HasSubstr("read_only"));
  EXPECT_THAT(test::message_of<ResourceError>([&] { queue.write(good, 0, held({'b'})); }),
              HasSubstr("read_only"));
  EXPECT_THAT(test::message_of<ResourceError>([&] { queue.drain(); }), HasSubstr("read_only"));
  EXPECT_EQ(queue.bytes_written(), 0);
  EXPECT_EQ(fs::file_size(folder_ / "out"), 0u);
}

TEST_F(WriteQueueTest, AFailureFreesProducersThatWait) {
  File bad = failing_file();
  WriteQueue queue(1);
  EXPECT_THROW(
      {
        for (int i = 0; i < 1000; ++i) queue.write(bad, i, held({'a'}));
      },
      ResourceError);
}

TEST_F(WriteQueueTest, EndsQuietlyAfterAFailureAndWithWritesWaiting) {
  File bad = failing_file();
  File good = File::create(folder_ / "out");
  {
    WriteQueue queue(1 << 30);
    for (int i = 0; i < 50; ++i) queue.write(good, i << 20, held(std::vector<char>(1 << 20, 'x')));
  }
  // No write is cut in half.
  EXPECT_EQ(fs::file_size(folder_ / "out") % (1 << 20), 0u);
  EXPECT_NO_THROW({
    WriteQueue queue(100);
    queue.write(bad, 0, held({'a'}));
  });
}

}  // namespace
}  // namespace halftone
