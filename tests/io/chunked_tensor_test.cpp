#include "io/chunked_tensor.h"

#include <cstring>
#include <numeric>

#include "support.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using Block = ChunkedTensor::Block;

// A tensor of bytes that count up, cut into blocks that lie one behind the other in one file each.
class Cut {
 public:
  Cut(std::vector<int64_t> shape, const std::vector<Block>& blocks) : shape_(std::move(shape)) {
    int64_t count = 1;
    for (const int64_t size : shape_) count *= size;
    whole_.resize(static_cast<size_t>(count));
    std::iota(whole_.begin(), whole_.end(), char{0});
    for (Block block : blocks) {
      block.file = files_.size();
      block.offset = 5;
      std::vector<char> file(5, 'x');
      copy(block, 0, 0, file);
      files_.push_back(file);
      blocks_.push_back(block);
    }
  }

  void expect_all_ranges() const {
    const ChunkedTensor tensor(shape_, DType::kU8, blocks_, "'t'");
    ASSERT_EQ(tensor.bytes(), std::ssize(whole_));
    for (int64_t begin = 0; begin <= tensor.bytes(); ++begin) {
      for (int64_t bytes = 0; bytes <= tensor.bytes() - begin; bytes += 1 + bytes / 9) {
        std::vector<char> data(static_cast<size_t>(bytes), 'x');
        tensor.read(begin, bytes, data.data(), [&](size_t file, int64_t at, void* to, int64_t n) {
          ASSERT_LE(at + n, std::ssize(files_[file]));
          std::memcpy(to, files_[file].data() + at, static_cast<size_t>(n));
        });
        const std::vector<char> expected(whole_.begin() + begin, whole_.begin() + begin + bytes);
        ASSERT_EQ(data, expected) << begin << " + " << bytes;
      }
    }
  }

 private:
  void copy(const Block& block, size_t dimension, int64_t at, std::vector<char>& file) const {
    if (dimension == shape_.size()) {
      file.push_back(whole_[static_cast<size_t>(at)]);
      return;
    }
    for (int64_t i = 0; i < block.sizes[dimension]; ++i) {
      copy(block, dimension + 1, at * shape_[dimension] + block.offsets[dimension] + i, file);
    }
  }

  std::vector<int64_t> shape_;
  std::vector<char> whole_;
  std::vector<Block> blocks_;
  std::vector<std::vector<char>> files_;
};

TEST(ChunkedTensor, ReadsEveryRangeOfEveryCut) {
  Cut({3, 4}, {{{0, 0}, {3, 4}}}).expect_all_ranges();
  Cut({5, 4}, {{{0, 0}, {3, 4}}, {{3, 0}, {2, 4}}}).expect_all_ranges();
  Cut({3, 7}, {{{0, 4}, {3, 3}}, {{0, 0}, {3, 4}}}).expect_all_ranges();
  Cut({2, 4, 3}, {{{0, 0, 0}, {1, 2, 3}},
                  {{0, 2, 0}, {1, 2, 3}},
                  {{1, 0, 0}, {1, 4, 2}},
                  {{1, 0, 2}, {1, 4, 1}}})
      .expect_all_ranges();
  // No grid, and a chunk of nothing.
  Cut({4, 4}, {{{0, 0}, {1, 3}},
               {{0, 3}, {3, 1}},
               {{3, 1}, {1, 3}},
               {{1, 0}, {3, 1}},
               {{1, 1}, {2, 2}},
               {{2, 2}, {0, 2}}})
      .expect_all_ranges();
  Cut({}, {{{}, {}}}).expect_all_ranges();
}

std::string refused(std::vector<int64_t> shape, const std::vector<Block>& blocks) {
  return test::message_of<InputError>(
      [&] { const ChunkedTensor tensor(std::move(shape), DType::kF32, blocks, "'t'"); });
}

TEST(ChunkedTensor, RefusesBlocksThatDoNotTile) {
  EXPECT_THAT(refused({4, 4}, {{{0, 0}, {2, 4}}, {{1, 0}, {3, 4}}}), HasSubstr("overlap"));
  EXPECT_THAT(refused({4, 4}, {{{0, 0}, {4, 3}}, {{0, 2}, {4, 2}}}), HasSubstr("overlap"));
  EXPECT_THAT(refused({4, 4}, {{{0, 0}, {4, 4}}, {{0, 0}, {4, 4}}}), HasSubstr("overlap"));
  EXPECT_THAT(refused({4, 4}, {{{0, 0}, {4, 3}}}), HasSubstr("hold 12 of the 16 elements"));
  EXPECT_THAT(refused({4, 4}, {}), HasSubstr("hold 0 of the 16"));
  EXPECT_THAT(refused({4, 4}, {{{2, 0}, {3, 4}}}), HasSubstr("outside of [4, 4]"));
  EXPECT_THAT(refused({4, 4}, {{{0}, {4}}}), HasSubstr("outside"));
  EXPECT_THAT(refused({4}, {{{INT64_MAX}, {INT64_MAX}}}), HasSubstr("outside"));
  EXPECT_THAT(refused({INT64_MAX, 4}, {}), HasSubstr("more than 2^63 bytes"));
}

}  // namespace
}  // namespace halftone
