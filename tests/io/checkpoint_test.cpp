#include "io/checkpoint.h"

#include "checkpoint_files.h"

namespace halftone {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { test::write_file(folder_ / "config.json", R"({"model_type":"llama"})"); }

  void write_two_shards() {
    test::write_shard(folder_ / kFirst, {{"b", 5}, {"d", 3}});
    test::write_shard(folder_ / kSecond, {{"a", 4}, {"c", 0}});
    test::write_index(folder_.path(), concat(R"({"a":")", kSecond, R"(","b":")", kFirst,
                                             R"(","c":")", kSecond, R"(","d":")", kFirst, R"("})"));
  }
  std::string refused() {
    const std::string message =
        test::message_of<InputError>([&] { Checkpoint checkpoint(folder_.path()); });
    EXPECT_THAT(message, HasSubstr(folder_.path().string()));
    return message;
  }
  std::string refused_map(const std::string& weight_map) {
    test::write_index(folder_.path(), weight_map);
    return refused();
  }
  std::string refused_index(const std::string& text) {
    test::write_file(folder_ / "model.safetensors.index.json", text);
    return refused();
  }

  test::TemporaryFolder folder_;
};

TEST_F(CheckpointTest, OpensOneFile) {
  test::write_shard(folder_ / "model.safetensors", {{"x", 3}, {"w", 2}});
  const Checkpoint checkpoint(folder_.path());
  EXPECT_EQ(checkpoint.directory(), folder_.path());
  EXPECT_EQ(checkpoint.config().at("model_type"), "llama");
  EXPECT_THAT(checkpoint.names(), ElementsAre("w", "x"));
  EXPECT_EQ(checkpoint.total_bytes(), 5);
  EXPECT_EQ(checkpoint.read_all("x"), (std::vector<char>{'x', 'y', 'z'}));
}

TEST_F(CheckpointTest, OpensShards) {
  write_two_shards();
  const Checkpoint checkpoint(folder_.path());
  EXPECT_THAT(checkpoint.names(), ElementsAre("a", "b", "c", "d"));
  EXPECT_TRUE(checkpoint.has("c"));
  EXPECT_FALSE(checkpoint.has("e"));
  EXPECT_EQ(checkpoint.info("b").bytes, 5);
  EXPECT_EQ(checkpoint.file_of("b"), folder_ / kFirst);
  EXPECT_EQ(checkpoint.file_of("a"), folder_ / kSecond);
  EXPECT_EQ(checkpoint.total_bytes(), 12);
  EXPECT_EQ(checkpoint.read_all("d"), (std::vector<char>{'d', 'e', 'f'}));
  EXPECT_TRUE(checkpoint.read_all("c").empty());
  char part[2];
  checkpoint.read("a", 2, 2, part);
  EXPECT_EQ(std::string(part, 2), "cd");
}

TEST_F(CheckpointTest, MovesWithItsPlaces) {
  write_two_shards();
  Checkpoint first(folder_.path());
  const Checkpoint second = std::move(first);
  EXPECT_EQ(second.read_all("d"), (std::vector<char>{'d', 'e', 'f'}));
}

TEST_F(CheckpointTest, NamesAMissingTensor) {
  write_two_shards();
  const Checkpoint checkpoint(folder_.path());
  for (const auto& act : std::vector<std::function<void()>>{
           [&] { checkpoint.info("lm_head.weight"); },
           [&] { checkpoint.file_of("lm_head.weight"); },
           [&] { checkpoint.read_all("lm_head.weight"); },
           [&] { checkpoint.read("lm_head.weight", 0, 0, nullptr); },
       }) {
    EXPECT_THAT(test::message_of<InputError>(act),
                AllOf(HasSubstr("'lm_head.weight'"), HasSubstr(folder_.path().string())));
  }
}

TEST_F(CheckpointTest, ConfigMissingOrMalformed) {
  test::write_shard(folder_ / "model.safetensors", {{"x", 3}});
  for (const char* text : {"", "{", "[]", "null", "{\"a\":1,\"a\":2}", "{}x"}) {
    test::write_file(folder_ / "config.json", text);
    EXPECT_THAT(refused(), HasSubstr("config.json")) << text;
  }
  fs::remove(folder_ / "config.json");
  EXPECT_THAT(refused(), HasSubstr("config.json"));
}

TEST_F(CheckpointTest, FolderMissingOrAFileOrEmpty) {
  EXPECT_THAT(refused(), HasSubstr("neither model.safetensors nor"));
  EXPECT_THAT(test::message_of<InputError>([&] { Checkpoint c(folder_ / "config.json"); }),
              HasSubstr("not a folder"));
  EXPECT_THAT(test::message_of<InputError>([&] { Checkpoint c(folder_ / std::string(5000, 'x')); }),
              HasSubstr("not a folder"));
}

TEST_F(CheckpointTest, ShardMissing) {
  write_two_shards();
  fs::remove(folder_ / kSecond);
  EXPECT_THAT(refused(), AllOf(HasSubstr(kSecond), HasSubstr("is missing"), HasSubstr("2 tensors"),
                               HasSubstr("'a'")));
}

TEST_F(CheckpointTest, ShardBroken) {
  write_two_shards();
  fs::resize_file(folder_ / kSecond, fs::file_size(folder_ / kSecond) - 1);
  EXPECT_THAT(refused(), HasSubstr(kSecond));
}

TEST_F(CheckpointTest, ShardOutsideTheFolder) {
  const fs::path outside = folder_.path() / ".." / "halftone_outside.safetensors";
  test::write_shard(outside, {{"a", 1}});
  for (const std::string& name : std::vector<std::string>{
           "../halftone_outside.safetensors", outside.string(), "/etc/passwd", "..", ".", "",
           "sub/x.safetensors", "..\\\\x.safetensors", "x..safetensors", "a\\u0000b"}) {
    EXPECT_THAT(refused_map(concat(R"({"a":")", name, R"("})")),
                AllOf(HasSubstr("tensor 'a'"), HasSubstr("plain name")))
        << name;
  }
  fs::remove(outside);
}

TEST_F(CheckpointTest, IndexPlacesATensorWhereItIsNot) {
  write_two_shards();
  EXPECT_THAT(refused_map(concat(R"({"a":")", kFirst, R"(","b":")", kFirst, R"(","c":")", kSecond,
                                 R"(","d":")", kFirst, R"("})")),
              AllOf(HasSubstr("tensor 'a'"), HasSubstr(kFirst), HasSubstr("does not hold it")));
}

TEST_F(CheckpointTest, IndexLeavesATensorOut) {
  write_two_shards();
  EXPECT_THAT(refused_map(concat(R"({"a":")", kSecond, R"(","b":")", kFirst, R"(","c":")", kSecond,
                                 R"("})")),
              AllOf(HasSubstr("tensor 'd'"), HasSubstr(kFirst), HasSubstr("not named")));
}

TEST_F(CheckpointTest, OneNameInTwoShards) {
  write_two_shards();
  test::write_shard(folder_ / kSecond, {{"a", 4}, {"b", 1}, {"c", 0}});
  EXPECT_THAT(refused(), AllOf(HasSubstr("tensor 'b'"), HasSubstr(kFirst), HasSubstr(kSecond)));
}

TEST_F(CheckpointTest, IndexMalformed) {
  for (const char* text :
       {"", "{", "[]", "null", "3", "{}", R"({"weight_map":[]})", R"({"weight_map":null})",
        R"({"weight_map":"x"})", R"({"weight_map":{}})", R"({"weight_map":{"a":"x","a":"y"}})",
        R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":null}})"}) {
    EXPECT_THAT(refused_index(text), HasSubstr("index.json")) << text;
  }
  EXPECT_THAT(refused_map(R"({"a":["x"]})"), AllOf(HasSubstr("tensor 'a'"), HasSubstr("[\"x\"]")));
}

TEST_F(CheckpointTest, SingleFileBesideAnIndexThatDoesNotNameIt) {
  write_two_shards();
  test::write_shard(folder_ / "model.safetensors", {{"a", 4}});
  EXPECT_THAT(refused(), HasSubstr("both"));
}

TEST_F(CheckpointTest, IndexMayNameTheSingleFile) {
  test::write_shard(folder_ / "model.safetensors", {{"a", 4}});
  test::write_index(folder_.path(), R"({"a":"model.safetensors"})");
  EXPECT_THAT(Checkpoint(folder_.path()).names(), ElementsAre("a"));
}

TEST_F(CheckpointTest, FingerprintFollowsConfigNamesSizesAndHeaders) {
  write_two_shards();
  const std::string before = Checkpoint(folder_.path()).fingerprint();
  EXPECT_EQ(before.size(), 64u);
  EXPECT_EQ(Checkpoint(folder_.path()).fingerprint(), before);

  // Weights are not read.
  File::open_for_writing(folder_ / kFirst)
      .write_at(static_cast<int64_t>(fs::file_size(folder_ / kFirst)) - 1, "!", 1);
  EXPECT_EQ(Checkpoint(folder_.path()).fingerprint(), before);

  test::write_shard(folder_ / kFirst, {{"b", 3}, {"d", 5}});  // the same size, another header
  const std::string header = Checkpoint(folder_.path()).fingerprint();
  EXPECT_NE(header, before);

  test::write_file(folder_ / "config.json", R"({"model_type": "llama"})");
  EXPECT_NE(Checkpoint(folder_.path()).fingerprint(), header);
}

TEST_F(CheckpointTest, FingerprintFollowsShardNames) {
  test::write_shard(folder_ / "model.safetensors", {{"a", 4}});
  const std::string before = Checkpoint(folder_.path()).fingerprint();
  fs::rename(folder_ / "model.safetensors", folder_ / "other.safetensors");
  test::write_index(folder_.path(), R"({"a":"other.safetensors"})");
  EXPECT_NE(Checkpoint(folder_.path()).fingerprint(), before);
}

}  // namespace
}  // namespace halftone
