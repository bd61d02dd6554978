#include <random>

#include "io/safetensors.h"
#include "support.h"

namespace halftone {
namespace {

constexpr int kCases = 4'000;

// Half of the mutations keep the JSON's shape and change its words, so that they get past the
// parser.
class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  void mutate(std::string& bytes) {
    const int times = 1 + static_cast<int>(below(4));
    for (int i = 0; i < times && !bytes.empty(); ++i) {
      if (below(2) == 0) {
        replace_word(bytes);
      } else {
        change_bytes(bytes);
      }
    }
    // Often the length is made right again: otherwise most cases would end there.
    if (below(4) != 0 && bytes.size() >= 8) {
      const size_t end = bytes.rfind('}');
      if (end != std::string::npos && end >= 8) bytes.replace(0, 8, test::length_word(end - 7));
    }
  }

 private:
  size_t below(size_t bound) { return random_() % bound; }

  void replace_word(std::string& bytes) {
    static const std::vector<std::string> words = {
        "0",     "1",       "4",          "8",
        "12",    "16",      "-1",         "9223372036854775808",
        "1e9",   "[]",      "[0]",        "[2,2]",
        "null",  "{}",      "\"\"",       "18446744073709551615",
        "\"a\"", "\"F32\"", "\"U8\"",     "\"BF16\"",
        "true",  "0.5",     "4294967296", "\"__metadata__\"",
        ",",     ":",       "}",          "]",
        "{",     "[",       "\"shape\""};
    // A run of digits, or a quoted word, or one mark.
    const size_t at = below(bytes.size());
    size_t begin = bytes.find_first_of("0123456789\"[", at);
    if (begin == std::string::npos) begin = at;
    size_t end = begin + 1;
    if (bytes[begin] == '"') {
      const size_t quote = bytes.find('"', end);
      if (quote != std::string::npos) end = quote + 1;
    } else if (bytes[begin] != '[') {
      while (end < bytes.size() && bytes[end] >= '0' && bytes[end] <= '9') ++end;
    }
    bytes.replace(begin, end - begin, words[below(words.size())]);
  }

  void change_bytes(std::string& bytes) {
    const size_t at = below(bytes.size());
    switch (below(5)) {
      case 0:
        bytes[at] = static_cast<char>(below(256));
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 2:
        bytes.erase(at, 1 + below(8));
        break;
      case 3:
        bytes.insert(at, bytes.substr(below(bytes.size()), below(64)));
        break;
      default:
        bytes.resize(at);
    }
  }

  std::mt19937 random_;
};

// What every accepted file must satisfy.
void expect_sound(const SafetensorsFile& file, const std::string& bytes) {
  int64_t total = 0;
  for (const auto& [name, info] : file.tensors()) {
    ASSERT_EQ(name, info.name);
    int64_t expected = size_of(info.dtype);
    for (const int64_t size : info.shape) expected *= size;
    ASSERT_EQ(info.bytes, expected);
    const std::vector<char> data = file.read_all(info);
    ASSERT_EQ(std::string_view(data.data(), data.size()),
              std::string_view(bytes).substr(static_cast<size_t>(info.offset), data.size()));
    total += info.bytes;
  }
  uint64_t header = 0;
  for (size_t i = 0; i < 8; ++i) header |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  ASSERT_EQ(static_cast<uint64_t>(total) + 8 + header, bytes.size());
}

TEST(SafetensorsFuzz, MutationsGiveASoundFileOrAnInputError) {
  test::TemporaryFolder folder;
  const fs::path path = folder / "x.safetensors";
  const std::string valid = test::safetensors_bytes(
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,2],)"
      R"("data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]},)"
      R"("c":{"dtype":"U8","shape":[],"data_offsets":[24,25]},)"
      R"("d":{"dtype":"I64","shape":[0,8],"data_offsets":[25,25]}})",
      25);
  Mutator mutator(20'260'101);
  int accepted = 0;
  for (int i = 0; i < kCases; ++i) {
    std::string bytes = valid;
    mutator.mutate(bytes);
    test::write_file(path, bytes);
    try {
      const SafetensorsFile file(path);
      ASSERT_NO_FATAL_FAILURE(expect_sound(file, bytes)) << "case " << i;
      ++accepted;
    } catch (const InputError&) {
      // the other allowed outcome
    }
  }
  // Both outcomes must really occur, or the mutations test nothing.
  EXPECT_GT(accepted, kCases / 100);
  EXPECT_LT(accepted, kCases / 2);
}

}  // namespace
}  // namespace halftone
