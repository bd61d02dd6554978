#include "io/prefetch.h"

#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support.h"

namespace halftone {
namespace {

TEST(Prefetcher, RunsInOrderOnAThreadOfItsOwn) {
  Prefetcher prefetcher;
  std::vector<int> order;
  std::thread::id other;
  for (int i = 0; i < 20; ++i) {
    prefetcher.post([&order, &other, i] {
      order.push_back(i);
      other = std::this_thread::get_id();
    });
  }
  for (size_t i = 0; i < 20; ++i) prefetcher.wait();
  std::vector<int> expected(20);
  for (int i = 0; i < 20; ++i) expected[static_cast<size_t>(i)] = i;
  EXPECT_EQ(order, expected);
  EXPECT_NE(other, std::this_thread::get_id());
}

TEST(Prefetcher, WaitsForTheOldestTaskOnly) {
  Prefetcher prefetcher;
  std::promise<void> gate;
  bool first = false;
  std::atomic<bool> second = false;
  prefetcher.post([&] { first = true; });
  prefetcher.post([&] {
    gate.get_future().wait();
    second = true;
  });
  prefetcher.wait();
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
  gate.set_value();
  prefetcher.wait();
  EXPECT_TRUE(second);
}

TEST(Prefetcher, RethrowsInOrderAndGoesOn) {
  Prefetcher prefetcher;
  int done = 0;
  prefetcher.post([&] { ++done; });
  prefetcher.post([] { throw InputError("shard 3"); });
  prefetcher.post([&] { ++done; });
  prefetcher.wait();
  EXPECT_EQ(test::message_of<InputError>([&] { prefetcher.wait(); }), "shard 3");
  prefetcher.wait();
  EXPECT_EQ(done, 2);
}

TEST(Prefetcher, DropsWhatHasNotBegun) {
  std::atomic<int> ran = 0;
  std::promise<void> begun;
  {
    Prefetcher prefetcher;
    prefetcher.post([&] {
      begun.set_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      ++ran;
    });
    for (int i = 0; i < 5; ++i) prefetcher.post([&] { ++ran; });
    begun.get_future().wait();
  }
  EXPECT_EQ(ran, 1);
}

TEST(PrefetcherDeathTest, RefusesToWaitForNothing) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(Prefetcher().wait(), "posted");
}

}  // namespace
}  // namespace halftone
