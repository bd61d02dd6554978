#include "dist/reshard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "core/sha256.h"
#include "dist/byte_gather.h"
#include "tests/support/shared_folder.h"

namespace halftone::test {
namespace {

std::string random_bytes(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

void write(const fs::path& path, const std::string& bytes) {
  File file = File::create(path);
  file.write_at(0, bytes.data(), std::ssize(bytes));
  file.close();
}

// Two bytes become four: each once more behind itself.
std::shared_ptr<const ElementChange> doubling() {
  return std::make_shared<const ElementChange>(ElementChange{
      2, 4, [](const void* from, void* to, int64_t elements) {
        for (int64_t i = 0; i < elements; ++i) {
          std::memcpy(static_cast<char*>(to) + 4 * i, static_cast<const char*>(from) + 2 * i, 2);
          std::memcpy(static_cast<char*>(to) + 4 * i + 2, static_cast<const char*>(from) + 2 * i,
                      2);
        }
      }});
}

// The plan's meaning byte by byte.
std::string expected_bytes(const TargetFile& file, const std::vector<std::string>& sources) {
  std::string bytes(static_cast<size_t>(file.bytes), '\0');
  const auto put = [&](int64_t at, char byte) { bytes[static_cast<size_t>(at)] = byte; };
  for (const ByteMove& move : file.moves) {
    const std::string& source = sources[move.source];
    for (int64_t i = 0; i < move.run.count; ++i) {
      for (int64_t j = 0; j < move.run.block; ++j) {
        const char byte = source[static_cast<size_t>(move.run.from + i * move.run.from_stride + j)];
        const int64_t block = move.run.to + i * move.run.to_stride;
        if (!move.change) {
          put(block + j, byte);
        } else {
          put(block + j / 2 * 4 + j % 2, byte);
          put(block + j / 2 * 4 + j % 2 + 2, byte);
        }
      }
    }
  }
  for (const ByteFill& fill : file.fills) {
    for (int64_t i = 0; i < fill.count * std::ssize(fill.bytes); ++i) {
      put(fill.to + i, fill.bytes[static_cast<size_t>(i % std::ssize(fill.bytes))]);
    }
  }
  return bytes;
}

// Files of some 9 MB, so that pieces cut blocks and elements: rows split in two, joined again, with
// and without a change of their elements, and blocks of many sizes.
struct Case {
  std::vector<std::string> sources{random_bytes(9'000'001, 1), random_bytes(5'000'000, 2)};
  BytePlan plan;

  explicit Case(const fs::path& folder) {
    for (size_t s = 0; s < sources.size(); ++s) {
      plan.sources.push_back(folder / concat("source", s));
    }
    for (const int64_t block : {2998, 600'000}) {
      const int64_t stride = 2 * block + 4;
      const int64_t count = 4'400'000 / block;
      TargetFile dense;  // the first halves of rows
      dense.name = concat("dense", block);
      dense.bytes = 7 + block * count + 100;
      dense.moves.push_back({0, {3, stride, 7, block, block, count}, nullptr});
      dense.fills.push_back({0, "header!", 1});
      plan.files.push_back(dense);
      TargetFile joined;  // rows of two sources
      joined.name = concat("below/joined", block);
      joined.bytes = 7 + 2 * block * count;
      joined.group = 1;
      joined.moves.push_back({0, {11, block, 7, 2 * block, block, count}, nullptr});
      joined.moves.push_back({1, {5, block, 7 + block, 2 * block, block, count}, nullptr});
      plan.files.push_back(joined);
      TargetFile changed;
      changed.name = concat("changed", block);
      changed.bytes = 5 + 2 * block * count;
      changed.moves.push_back({0, {3, stride, 5, 2 * block, block, count}, doubling()});
      plan.files.push_back(changed);
    }
    TargetFile one;
    one.name = "one";
    one.bytes = 18'000'000;
    one.moves.push_back({0, {1, 0, 1, 0, 9'000'000, 1}, doubling()});
    one.moves.back().run.block = 8'999'998;
    one.fills.push_back({17'999'997, "x", 3});
    plan.files.push_back(one);
  }

  void write_sources() const {
    for (size_t s = 0; s < sources.size(); ++s) write(plan.sources[s], sources[s]);
  }
};

std::vector<int> one_host(const Communicator& ranks) {
  return std::vector<int>(static_cast<size_t>(ranks.size()), 0);
}
std::vector<int> a_host_each(const Communicator& ranks) {
  std::vector<int> nodes;
  for (int r = 0; r < ranks.size(); ++r) nodes.push_back(r);
  return nodes;
}

TEST(Reshard, EveryByteComesToItsPlace) {
  const SharedFolder shared;
  const Case given(shared.path());
  shared.on_first([&] {
    given.write_sources();
    fs::create_directories(shared.path() / "out" / "below");
  });
  FileManifest manifest(shared.path() / "manifest");
  manifest.begin({{"case", 1}}, false, shared.ranks());
  const auto records = reshard(given.plan, shared.path() / "out", manifest,
                               a_host_each(shared.ranks()), shared.ranks());
  shared.on_first([&] {
    ASSERT_EQ(records.size(), given.plan.files.size());
    for (size_t i = 0; i < records.size(); ++i) {
      const TargetFile& file = given.plan.files[i];
      const std::string bytes = read_text_file(shared.path() / "out" / file.name);
      EXPECT_EQ(records[i].name, file.name);
      EXPECT_EQ(records[i].bytes, file.bytes);
      EXPECT_EQ(records[i].sha256, sha256_of_bytes(bytes.data(), bytes.size()));
      EXPECT_TRUE(bytes == expected_bytes(file, given.sources)) << file.name;
    }
  });
}

TEST(Reshard, CompleteFilesStayAsTheyAre) {
  const SharedFolder shared;
  const Case given(shared.path());
  const fs::path out = shared.path() / "out";
  shared.on_first([&] {
    given.write_sources();
    fs::create_directories(out / "below");
  });
  const auto run = [&](bool resumes) {
    FileManifest manifest(shared.path() / "manifest");
    manifest.begin({{"case", 1}}, resumes, shared.ranks());
    return reshard(given.plan, out, manifest, one_host(shared.ranks()), shared.ranks());
  };
  const auto first = run(false);
  std::map<std::string, int64_t> times;
  shared.on_first([&] {
    for (const FileRecord& record : first) times[record.name] = change_time(out / record.name);
    // As a kill may leave them: damaged, gone, without a record, half written.
    write(out / "dense2998", std::string(static_cast<size_t>(given.plan.files[0].bytes), 'x'));
    fs::remove(out / "changed600000");
    FileManifest(shared.path() / "manifest").drop("one");
    write(out / "one.tmp", "half");
  });
  const auto second = run(true);
  shared.on_first([&] {
    const std::set<std::string> written{"dense2998", "changed600000", "one"};
    for (size_t i = 0; i < second.size(); ++i) {
      const std::string& name = second[i].name;
      EXPECT_EQ(second[i].sha256, first[i].sha256);
      EXPECT_EQ(sha256_of_file(out / name), first[i].sha256) << name;
      EXPECT_EQ(change_time(out / name) == times[name], written.count(name) == 0) << name;
    }
  });
}

TEST(Reshard, AManifestOfOtherWorkIsGivenUp) {
  const SharedFolder shared;
  FileManifest manifest(shared.path() / "manifest");
  shared.on_first([&] { EXPECT_FALSE(manifest.exists()); });
  manifest.begin({{"case", 1}}, false, shared.ranks());
  shared.on_first([&] {
    manifest.add({"a", 5, "sum"});
    EXPECT_TRUE(manifest.belongs_to({{"case", 1}}));
    EXPECT_FALSE(manifest.belongs_to({{"case", 2}}));
    EXPECT_EQ(manifest.digest(), "");
  });
  manifest.begin({{"case", 1}}, true, shared.ranks());
  ASSERT_TRUE(manifest.find("a"));
  EXPECT_EQ(manifest.find("a")->bytes, 5);
  EXPECT_FALSE(manifest.find("b"));
  shared.ranks().barrier();
  manifest.begin({{"case", 2}}, false, shared.ranks());
  EXPECT_FALSE(manifest.find("a"));
  shared.on_first([&] {
    manifest.finish({{"b", 6, "sum"}}, "digest");
    EXPECT_EQ(manifest.digest(), "digest");
    manifest.remove();
    EXPECT_FALSE(fs::exists(shared.path() / "manifest"));
  });
}

TEST(Reshard, TooLittleSpaceShowsBeforeAnythingIsWritten) {
  const SharedFolder shared;
  if (shared.ranks().size() > 1) GTEST_SKIP() << "the others would wait for the rank that throws";
  BytePlan plan;
  plan.files.push_back({"large", int64_t{1} << 60, 0, {}, {}});
  FileManifest manifest(shared.path() / "manifest");
  manifest.begin({}, false, shared.ranks());
  EXPECT_THROW(reshard(plan, shared.path(), manifest, {0}, shared.ranks()), ResourceError);
  EXPECT_FALSE(fs::exists(shared.path() / "large.tmp"));
}

TEST(Reshard, FilesAreDealtToHostsAndThenToTheirRanks) {
  const std::vector<int> node_of{0, 0, 1, 1, 1};
  const std::vector<int> writers = deal_files(8, node_of);
  EXPECT_EQ(writers, (std::vector<int>{0, 2, 1, 3, 0, 4, 1, 2}));
  const std::vector<int> checkers = deal_checks(writers, node_of);
  for (size_t i = 0; i < writers.size(); ++i) {
    EXPECT_NE(node_of[static_cast<size_t>(writers[i])], node_of[static_cast<size_t>(checkers[i])]);
  }
  EXPECT_EQ(deal_checks({0, 1}, {0, 0}), (std::vector<int>{-1, -1}));
}

TEST(Reshard, TheFingerprintKnowsTheSourcesAndTheMoves) {
  const SharedFolder shared;
  shared.on_first([&] {
    Case given(shared.path());
    given.write_sources();
    const std::string before = fingerprint_of(given.plan);
    EXPECT_EQ(fingerprint_of(given.plan), before);
    given.plan.files[0].moves[0].run.from += 1;
    EXPECT_NE(fingerprint_of(given.plan), before);
    given.plan.files[0].moves[0].run.from -= 1;
    fs::last_write_time(given.plan.sources[0], fs::file_time_type::clock::now());
    EXPECT_NE(fingerprint_of(given.plan), before);
  });
}

}  // namespace
}  // namespace halftone::test
