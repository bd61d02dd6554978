#include "kernels/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace halftone {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryIndexOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam());
  for (const int64_t count : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
    pool.for_each(count, [&](int64_t i) { ++seen[static_cast<size_t>(i)]; });
    for (const auto& times : seen) EXPECT_EQ(times, 1);
  }
}

TEST_P(ThreadPoolTest, RangesCoverWithoutOverlapAndKeepTheGrain) {
  ThreadPool pool(GetParam());
  for (const int64_t count : {0, 1, 5, 64, 1001}) {
    for (const int64_t grain : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      std::atomic<int64_t> shortest = count;
      pool.for_ranges(count, grain, [&](int64_t begin, int64_t end) {
        ASSERT_LT(begin, end);
        int64_t known = shortest;
        while (end - begin < known && !shortest.compare_exchange_weak(known, end - begin)) {
        }
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      for (const auto& times : seen) EXPECT_EQ(times, 1);
      EXPECT_GE(shortest, std::min(count, grain));
    }
  }
}

TEST_P(ThreadPoolTest, RangesAreTheSameEveryTime) {
  ThreadPool pool(GetParam());
  const auto ranges = [&] {
    std::mutex mutex;
    std::set<std::pair<int64_t, int64_t>> found;
    pool.for_ranges(12345, 10, [&](int64_t begin, int64_t end) {
      const std::scoped_lock lock(mutex);
      found.emplace(begin, end);
    });
    return found;
  };
  EXPECT_EQ(ranges(), ranges());
}

TEST_P(ThreadPoolTest, TheSmallestIndexThatThrewIsTheOneReported) {
  ThreadPool pool(GetParam());
  for (int repeat = 0; repeat < 50; ++repeat) {
    std::atomic<int> ran = 0;
    try {
      pool.for_each(100, [&](int64_t i) {
        ++ran;
        if (i % 10 == 7) throw std::runtime_error(std::to_string(i));
      });
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "7");
    }
    EXPECT_EQ(ran, 100);
  }
  pool.for_each(3, [](int64_t) {});  // and the pool is still of use
}

TEST_P(ThreadPoolTest, NestedCallsRunInPlace) {
  ThreadPool pool(GetParam());
  std::atomic<int> sum = 0;
  pool.for_each(8, [&](int64_t) {
    const std::thread::id outer = std::this_thread::get_id();
    pool.for_each(5, [&](int64_t i) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      sum += static_cast<int>(i);
    });
    pool.for_ranges(4, 1,
                    [&](int64_t begin, int64_t end) { sum += static_cast<int>(end - begin); });
  });
  EXPECT_EQ(sum, 8 * (10 + 4));
}

TEST_P(ThreadPoolTest, TwoCallersTakeTurns) {
  ThreadPool pool(GetParam());
  std::atomic<int64_t> sum = 0;
  const auto call = [&] {
    for (int repeat = 0; repeat < 200; ++repeat) pool.for_each(10, [&](int64_t i) { sum += i; });
  };
  std::thread other(call);
  call();
  other.join();
  EXPECT_EQ(sum, 2 * 200 * 45);
}

TEST_P(ThreadPoolTest, OnStartRunsOnceInEveryWorker) {
  std::mutex mutex;
  std::set<std::thread::id> started;
  {
    ThreadPool pool(GetParam(), [&] {
      const std::scoped_lock lock(mutex);
      EXPECT_TRUE(started.insert(std::this_thread::get_id()).second);
    });
  }
  EXPECT_EQ(static_cast<int>(started.size()), GetParam() - 1);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 3, 5));

TEST(ThreadPool, NoThreadsIsAProgrammersError) {
  EXPECT_DEATH(ThreadPool(0), "at least one thread");
}

}  // namespace
}  // namespace halftone
