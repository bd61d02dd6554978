#include "io/statistics_store.h"

#include <cmath>
#include <limits>

#include "support.h"

namespace halftone {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class StatisticsStoreTest : public testing::Test {
 protected:
  test::TemporaryFolder folder_;
  fs::path path_ = folder_ / "store.h5";
};

TEST_F(StatisticsStoreTest, StartsEmpty) {
  StatisticsStore::create(path_);
  const StatisticsStore store = StatisticsStore::open(path_);
  EXPECT_THAT(store.linears(), IsEmpty());
  EXPECT_THAT(store.texts(), IsEmpty());
  EXPECT_EQ(store.stages_done(), 0);
  EXPECT_EQ(store.stages(), 0);
}

TEST_F(StatisticsStoreTest, KeepsValuesBitForBit) {
  const std::vector<float> values = {0.0f,
                                     -0.0f,
                                     1.5f,
                                     -std::numeric_limits<float>::max(),
                                     std::numeric_limits<float>::denorm_min(),
                                     std::numeric_limits<float>::infinity()};
  {
    StatisticsStore store = StatisticsStore::create(path_);
    store.set_values("model.layers.0.mlp.up_proj", "input_amax", {3.25f}, {});
    store.set_values("model.layers.0.mlp.up_proj", "channels", values, {2, 3});
    store.set_values("model.layers.0.mlp.down_proj", "none", {}, {4, 0});
    store.set_values("a", "nan", {std::numeric_limits<float>::quiet_NaN()}, {1});
  }
  const StatisticsStore store = StatisticsStore::open(path_);
  EXPECT_THAT(store.linears(),
              ElementsAre("a", "model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj"));
  EXPECT_THAT(store.datasets("model.layers.0.mlp.up_proj"), ElementsAre("channels", "input_amax"));
  const auto scalar = store.values("model.layers.0.mlp.up_proj", "input_amax");
  EXPECT_THAT(scalar.shape, IsEmpty());
  EXPECT_THAT(scalar.values, ElementsAre(3.25f));
  const auto matrix = store.values("model.layers.0.mlp.up_proj", "channels");
  EXPECT_THAT(matrix.shape, ElementsAre(2, 3));
  ASSERT_EQ(matrix.values, values);
  EXPECT_TRUE(std::signbit(matrix.values[1]));
  const auto none = store.values("model.layers.0.mlp.down_proj", "none");
  EXPECT_THAT(none.shape, ElementsAre(4, 0));
  EXPECT_THAT(none.values, IsEmpty());
  EXPECT_TRUE(std::isnan(store.values("a", "nan").values.at(0)));
}

TEST_F(StatisticsStoreTest, SaysWhatItHas) {
  StatisticsStore store = StatisticsStore::create(path_);
  store.set_values("a", "x", {1.0f}, {});
  EXPECT_TRUE(store.has("a", "x"));
  EXPECT_FALSE(store.has("a", "y"));
  EXPECT_FALSE(store.has("b", "x"));
  EXPECT_THAT(test::message_of<InputError>([&] { store.values("a", "y"); }),
              AllOf(HasSubstr(path_.string()), HasSubstr("'y' is missing")));
  EXPECT_THAT(test::message_of<InputError>([&] { store.values("b", "x"); }), HasSubstr("'b'"));
  EXPECT_THAT(test::message_of<InputError>([&] { store.datasets("b"); }), HasSubstr("'b'"));
}

TEST_F(StatisticsStoreTest, Overwrites) {
  StatisticsStore store = StatisticsStore::create(path_);
  store.set_values("a", "x", {1.0f}, {});
  store.set_values("a", "x", {2.0f}, {});
  EXPECT_THAT(store.values("a", "x").values, ElementsAre(2.0f));
  store.set_values("a", "x", {3.0f, 4.0f}, {2});
  EXPECT_THAT(store.values("a", "x").values, ElementsAre(3.0f, 4.0f));
  EXPECT_THAT(store.datasets("a"), ElementsAre("x"));
  store.set_text("k", "long text");
  store.set_text("k", "short");
  EXPECT_EQ(store.text("k"), "short");
}

TEST_F(StatisticsStoreTest, KeepsTextsOfAnyLength) {
  const std::string recipe(300'000, 'r');
  {
    StatisticsStore store = StatisticsStore::create(path_);
    store.set_text("recipe", recipe);
    store.set_text("empty", "");
    store.set_text("utf8", "caf\xc3\xa9\n\"quoted\" ");
  }
  const StatisticsStore store = StatisticsStore::open(path_);
  EXPECT_EQ(store.text("recipe"), recipe);
  EXPECT_EQ(store.text("empty"), "");
  const auto texts = store.texts();
  EXPECT_EQ(texts.size(), 3u);
  EXPECT_EQ(texts.at("utf8"), "caf\xc3\xa9\n\"quoted\" ");
  EXPECT_THAT(test::message_of<InputError>([&] { store.text("model"); }),
              AllOf(HasSubstr(path_.string()), HasSubstr("'model'")));
}

TEST_F(StatisticsStoreTest, KeepsProgress) {
  {
    StatisticsStore store = StatisticsStore::create(path_);
    store.set_progress(3, 61);
    store.set_progress(4, 61);
    store.flush();
  }
  StatisticsStore store = StatisticsStore::open(path_);
  EXPECT_EQ(store.stages_done(), 4);
  EXPECT_EQ(store.stages(), 61);
  store.set_progress(61, 61);
  EXPECT_EQ(store.stages_done(), 61);
}

TEST_F(StatisticsStoreTest, GoesOnAfterOpening) {
  {
    StatisticsStore store = StatisticsStore::create(path_);
    store.set_values("a", "x", {1.0f}, {});
  }
  {
    StatisticsStore store = StatisticsStore::open(path_);
    store.set_values("b", "x", {2.0f}, {});
    EXPECT_THAT(store.values("a", "x").values, ElementsAre(1.0f));
  }
  EXPECT_THAT(StatisticsStore::open(path_).linears(), ElementsAre("a", "b"));
}

TEST_F(StatisticsStoreTest, FlushedBytesAreReadableWhileTheStoreIsOpen) {
  StatisticsStore store = StatisticsStore::create(path_);
  store.set_values("a", "x", {1.0f}, {});
  store.flush();
  fs::copy_file(path_, folder_ / "copy.h5");
  EXPECT_THAT(StatisticsStore::open(folder_ / "copy.h5").linears(), ElementsAre("a"));
}

TEST_F(StatisticsStoreTest, ReadingLeavesTheFileAlone) {
  StatisticsStore::create(path_).set_values("a", "x", {1.0f}, {});
  const std::string before = read_text_file(path_);
  fs::permissions(path_, fs::perms::owner_read);
  {
    StatisticsStore store = StatisticsStore::open(path_);
    store.values("a", "x");
    store.flush();
  }
  EXPECT_EQ(read_text_file(path_), before);
}

TEST_F(StatisticsStoreTest, Moves) {
  StatisticsStore first = StatisticsStore::create(path_);
  first.set_values("a", "x", {1.0f}, {});
  StatisticsStore second = std::move(first);
  EXPECT_TRUE(second.has("a", "x"));
  second = StatisticsStore::create(folder_ / "other.h5");
  EXPECT_FALSE(second.has("a", "x"));
  EXPECT_THAT(StatisticsStore::open(path_).linears(), ElementsAre("a"));
}

void fill(const fs::path& path) {
  StatisticsStore store = StatisticsStore::create(path);
  store.set_text("recipe", std::string(70'000, 'r'));
  for (int i = 0; i < 300; ++i) {
    const std::string name = concat("model.layers.", i, ".mlp.up_proj");
    store.set_values(name, "input_amax", {static_cast<float>(i)}, {});
    store.set_values(name, "channels", std::vector<float>(17, 0.5f), {17});
    store.set_values(name, "channels", std::vector<float>(15, 0.25f), {3, 5});
    if (i % 50 == 0) store.flush();
    store.set_progress(i, 300);
  }
}

TEST_F(StatisticsStoreTest, EqualRunsGiveEqualBytes) {
  fill(path_);
  // A time stamp has a resolution of a second.
  ::usleep(1'100'000);
  fill(folder_ / "second.h5");
  EXPECT_EQ(read_text_file(path_), read_text_file(folder_ / "second.h5"));
  EXPECT_EQ(StatisticsStore::open(path_).linears().size(), 300u);
  EXPECT_EQ(StatisticsStore::open(path_).stages_done(), 299);
}

TEST_F(StatisticsStoreTest, RefusesNamesThatLeadElsewhere) {
  StatisticsStore store = StatisticsStore::create(path_);
  for (const std::string& name :
       std::vector<std::string>{"", ".", "a/b", "/", "../meta", std::string("a\0b", 3)}) {
    EXPECT_THAT(test::message_of<InputError>([&] { store.set_values(name, "x", {1.0f}, {}); }),
                HasSubstr("cannot be the name of a linear"));
    EXPECT_THROW(store.set_values("a", name, {1.0f}, {}), InputError);
    EXPECT_THROW(store.set_text(name, "x"), InputError);
    EXPECT_THROW(store.text(name), InputError);
    EXPECT_THROW(store.values("a", name), InputError);
    EXPECT_THROW(store.has(name, "x"), InputError);
  }
  EXPECT_THAT(store.linears(), IsEmpty());
}

TEST_F(StatisticsStoreTest, WhatCannotBeCreatedIsAResourceError) {
  testing::internal::CaptureStderr();
  EXPECT_THAT(
      test::message_of<ResourceError>([&] { StatisticsStore::create(folder_ / "no" / "x.h5"); }),
      AllOf(HasSubstr("x.h5"), HasSubstr("No such file")));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(StatisticsStoreDeathTest, RefusesValuesThatDoNotFitTheirShape) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  test::TemporaryFolder folder;
  StatisticsStore store = StatisticsStore::create(folder / "store.h5");
  EXPECT_DEATH(store.set_values("a", "x", {1.0f, 2.0f}, {3}), "shape");
  EXPECT_DEATH(store.set_progress(3, 2), "progress");
}

}  // namespace
}  // namespace halftone
