#include "io/stage_image.h"

#include <cstring>

#include "checkpoint_files.h"

namespace halftone {
namespace {

using testing::HasSubstr;

std::vector<TensorPiece> whole(const std::vector<std::string>& names) {
  std::vector<TensorPiece> pieces;
  for (const std::string& name : names) pieces.push_back({name});
  return pieces;
}

class StageImageTest : public testing::Test {
 protected:
  StageImageTest() {
    test::write_file(folder_ / "config.json", "{}");
    test::write_shard(folder_ / "model.safetensors",
                      {{"a", 1}, {"b", 64}, {"c", 0}, {"d", 300}, {"e", 63}, {"f", 129}});
    checkpoint_ = std::make_unique<Checkpoint>(folder_.path());
    image_ = plan_stage_image(*checkpoint_, whole(names_));
    // The image by whole reads.
    expected_.assign(static_cast<size_t>(image_.bytes), 0);
    for (const auto& entry : image_.entries) {
      const std::vector<char> data = checkpoint_->read_all(entry.piece.tensor);
      std::copy(data.begin(), data.end(), expected_.begin() + entry.begin);
    }
  }

  // Bytes that are not written show as 0x55.
  std::vector<char> range(int64_t begin, int64_t bytes) const {
    std::vector<char> data(static_cast<size_t>(bytes), 0x55);
    read_stage_range(*checkpoint_, image_, begin, bytes, data.data());
    return data;
  }
  std::vector<char> expected(int64_t begin, int64_t bytes) const {
    std::vector<char> data;
    for (int64_t i = begin; i < begin + bytes; ++i) {
      data.push_back(i < image_.bytes ? expected_[static_cast<size_t>(i)] : '\0');
    }
    return data;
  }

  test::TemporaryFolder folder_;
  const std::vector<std::string> names_ = {"f", "c", "a", "d", "b", "e"};
  std::unique_ptr<Checkpoint> checkpoint_;
  StageImage image_;
  std::vector<char> expected_;
};

TEST_F(StageImageTest, PlacesTensorsInTheGivenOrder) {
  ASSERT_EQ(image_.entries.size(), names_.size());
  const int64_t begins[] = {0, 192, 192, 256, 576, 640};
  for (size_t i = 0; i < names_.size(); ++i) {
    const StageImage::Entry& entry = image_.entries[i];
    EXPECT_EQ(entry.piece.tensor, names_[i]);
    EXPECT_EQ(entry.begin, begins[i]);
    EXPECT_EQ(entry.bytes, checkpoint_->info(names_[i]).bytes);
    EXPECT_EQ(entry.dtype, DType::kU8);
    EXPECT_EQ(entry.shape, checkpoint_->info(names_[i]).shape);
  }
  EXPECT_EQ(image_.bytes, 704);
}

TEST_F(StageImageTest, PartsAreAlignedAndCoverTheImage) {
  for (int parts = 1; parts <= 20; ++parts) {
    const int64_t part = image_.part_bytes(parts);
    EXPECT_EQ(part % 64, 0);
    EXPECT_GE(part * parts, image_.bytes);
    EXPECT_LT(part, image_.bytes / parts + 65);
  }
  EXPECT_EQ(StageImage{}.part_bytes(3), 0);
}

TEST_F(StageImageTest, EverySplitGivesTheSameBytes) {
  for (int parts = 1; parts <= 5; ++parts) {
    const int64_t part = image_.part_bytes(parts);
    std::vector<char> whole;
    for (int rank = 0; rank < parts; ++rank) {
      const std::vector<char> data = range(rank * part, part);
      whole.insert(whole.end(), data.begin(), data.end());
    }
    EXPECT_EQ(whole, expected(0, part * parts)) << parts;
  }
}

TEST_F(StageImageTest, EveryRangeIncludingThoseBeyondTheEnd) {
  for (int64_t begin = 0; begin < image_.bytes + 70; begin += 7) {
    for (const int64_t bytes : {0, 1, 63, 64, 65, 200, 1000}) {
      ASSERT_EQ(range(begin, bytes), expected(begin, bytes)) << begin << " " << bytes;
    }
  }
}

TEST_F(StageImageTest, NoTensorsAndUnknownOnes) {
  const StageImage none = plan_stage_image(*checkpoint_, {});
  EXPECT_EQ(none.bytes, 0);
  char data[3] = {1, 2, 3};
  read_stage_range(*checkpoint_, none, 0, 3, data);
  EXPECT_EQ(std::memcmp(data, "\0\0\0", 3), 0);
  EXPECT_THAT(test::message_of<InputError>([&] {
                plan_stage_image(*checkpoint_, whole({"a", "nope"}));
              }),
              HasSubstr("'nope'"));
}

}  // namespace
}  // namespace halftone
