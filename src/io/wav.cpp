#include "io/wav.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>

#include "core/error.h"
#include "core/log.h"

namespace halftone {
namespace {

constexpr uint16_t kPcm = 1;
constexpr uint16_t kFloat = 3;
constexpr uint16_t kExtensible = 0xFFFE;
constexpr int64_t kMaxChannels = 1024;
// Frames are read in pieces of about this many bytes.
constexpr int64_t kPieceBytes = int64_t{1} << 20;

uint64_t little_endian(const unsigned char* bytes, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

struct Chunk {
  std::array<unsigned char, 4> id = {};
  int64_t begin = 0;
  int64_t bytes = 0;

  bool is(const char* name) const { return std::memcmp(id.data(), name, id.size()) == 0; }
};

struct WavFormat {
  uint16_t encoding = 0;
  int64_t channels = 0;
  int64_t sample_rate = 0;
  int64_t frame_bytes = 0;
  int64_t bits = 0;

  int64_t sample_bytes() const { return bits / 8; }
};

// One sample of full scale 1; integers of 8 bits are unsigned.
double decode(const WavFormat& format, const unsigned char* bytes) {
  const uint64_t word = little_endian(bytes, static_cast<size_t>(format.sample_bytes()));
  if (format.encoding == kFloat) {
    return format.bits == 32 ? std::bit_cast<float>(static_cast<uint32_t>(word))
                             : std::bit_cast<double>(word);
  }
  if (format.bits == 8) return (static_cast<double>(word) - 128.0) / 128.0;
  const auto shift = static_cast<unsigned>(64 - format.bits);
  const auto value = static_cast<int64_t>(word << shift) >> shift;
  return std::ldexp(static_cast<double>(value), static_cast<int>(1 - format.bits));
}

class WavReader {
 public:
  explicit WavReader(const fs::path& path)
      : file_(File::open_for_reading(path)), size_(file_.size()) {}

  Sound read() {
    check_riff();
    std::optional<WavFormat> format;
    for (int64_t offset = 12; offset + 8 <= size_;) {
      const Chunk chunk = read_chunk(offset);
      if (chunk.is("fmt ")) format = read_format(chunk);
      if (chunk.is("data")) {
        if (!format) fail("the chunk 'data' comes before 'fmt '");
        return read_samples(*format, chunk);
      }
      offset = chunk.begin + chunk.bytes + chunk.bytes % 2;  // chunks begin at even offsets
    }
    fail("has no chunk '", format ? "data" : "fmt ", "'");
  }

 private:
  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw InputError(concat("'", file_.path().string(), "': ", parts...));
  }

  void check_riff() const {
    std::array<unsigned char, 12> head{};
    if (size_ < std::ssize(head)) fail("not a WAV file: ", size_, " bytes");
    file_.read_at(0, head.data(), std::ssize(head));
    if (std::memcmp(head.data(), "RIFF", 4) != 0 || std::memcmp(head.data() + 8, "WAVE", 4) != 0) {
      fail("not a WAV file: it does not begin with RIFF and WAVE");
    }
  }

  Chunk read_chunk(int64_t offset) const {
    std::array<unsigned char, 8> head{};
    file_.read_at(offset, head.data(), std::ssize(head));
    Chunk chunk;
    std::copy_n(head.begin(), 4, chunk.id.begin());
    chunk.begin = offset + std::ssize(head);
    chunk.bytes = static_cast<int64_t>(little_endian(head.data() + 4, 4));
    if (chunk.bytes > size_ - chunk.begin) {
      fail("the chunk at byte ", offset, " has ", chunk.bytes, " bytes, but the file ends after ",
           size_ - chunk.begin, " of them: it was cut off");
    }
    return chunk;
  }

  WavFormat read_format(const Chunk& chunk) const {
    std::array<unsigned char, 40> bytes{};
    if (chunk.bytes < 16) fail("the chunk 'fmt ' has ", chunk.bytes, " bytes; expected 16 or more");
    file_.read_at(chunk.begin, bytes.data(), std::min(chunk.bytes, std::ssize(bytes)));
    const auto word = [&](size_t at, size_t count) {
      return static_cast<int64_t>(little_endian(bytes.data() + at, count));
    };
    WavFormat format;
    format.encoding = static_cast<uint16_t>(word(0, 2));
    format.channels = word(2, 2);
    format.sample_rate = word(4, 4);
    format.frame_bytes = word(12, 2);
    format.bits = word(14, 2);
    if (format.encoding == kExtensible) {
      if (chunk.bytes < 40) fail("the extensible chunk 'fmt ' has ", chunk.bytes, " bytes, not 40");
      format.encoding = static_cast<uint16_t>(word(24, 2));  // of the sub-format's GUID
    }
    check_format(format);
    return format;
  }

  void check_format(const WavFormat& format) const {
    const bool pcm = format.encoding == kPcm && (format.bits == 8 || format.bits == 16 ||
                                                 format.bits == 24 || format.bits == 32);
    const bool floating = format.encoding == kFloat && (format.bits == 32 || format.bits == 64);
    if (!pcm && !floating) {
      fail(
          "encoding ", format.encoding, " with ", format.bits,
          " bits a sample is not supported; supported: PCM (1) of 8, 16, 24 or 32 bits, floats (3) "
          "of 32 or 64");
    }
    if (format.channels < 1 || format.channels > kMaxChannels) {
      fail(format.channels, " channels; expected 1 to ", kMaxChannels);
    }
    if (format.frame_bytes != format.channels * format.sample_bytes()) {
      fail("a frame of ", format.frame_bytes, " bytes contradicts ", format.channels,
           " channels of ", format.bits, " bits");
    }
    if (format.sample_rate < kMinSampleRate || format.sample_rate > kMaxSampleRate) {
      fail("a sample rate of ", format.sample_rate, " Hz; expected ", kMinSampleRate, " to ",
           kMaxSampleRate);
    }
  }

  Sound read_samples(const WavFormat& format, const Chunk& chunk) const {
    if (chunk.bytes % format.frame_bytes != 0) {
      fail("the chunk 'data' of ", chunk.bytes, " bytes is no multiple of a frame (",
           format.frame_bytes, " bytes)");
    }
    const int64_t frames = chunk.bytes / format.frame_bytes;
    Sound sound;
    sound.sample_rate = format.sample_rate;
    sound.samples.reserve(static_cast<size_t>(frames));
    const int64_t piece = std::max<int64_t>(1, kPieceBytes / format.frame_bytes);
    std::vector<unsigned char> bytes;
    for (int64_t begin = 0; begin < frames; begin += piece) {
      const int64_t count = std::min(piece, frames - begin);
      bytes.resize(static_cast<size_t>(count * format.frame_bytes));
      file_.read_at(chunk.begin + begin * format.frame_bytes, bytes.data(), std::ssize(bytes));
      for (int64_t i = 0; i < count; ++i) {
        sound.samples.push_back(mix(format, bytes.data() + i * format.frame_bytes, begin + i));
      }
    }
    return sound;
  }

  // The average of a frame's channels.
  float mix(const WavFormat& format, const unsigned char* frame, int64_t index) const {
    double sum = 0.0;
    for (int64_t channel = 0; channel < format.channels; ++channel) {
      sum += decode(format, frame + channel * format.sample_bytes());
    }
    const auto mean = static_cast<float>(sum / static_cast<double>(format.channels));
    if (!std::isfinite(mean)) fail("sample ", index, " is not finite");
    return mean;
  }

  File file_;
  int64_t size_ = 0;
};

}  // namespace

Sound read_wav(const fs::path& path) {
  return WavReader(path).read();
}

}  // namespace halftone
