#include "io/wav.h"

#include <bit>

#include "tests/io/support.h"

namespace halftone::test {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

std::string word(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

std::string chunk(const std::string& id, const std::string& body) {
  return id + word(body.size(), 4) + body + (body.size() % 2 == 1 ? std::string(1, '\0') : "");
}

std::string format_body(int encoding, int channels, uint32_t rate, int bits) {
  const int frame = channels * bits / 8;
  return word(static_cast<uint64_t>(encoding), 2) + word(static_cast<uint64_t>(channels), 2) +
         word(rate, 4) + word(uint64_t{rate} * static_cast<uint64_t>(frame), 4) +
         word(static_cast<uint64_t>(frame), 2) + word(static_cast<uint64_t>(bits), 2);
}

std::string riff(const std::string& chunks) {
  return "RIFF" + word(chunks.size() + 4, 4) + "WAVE" + chunks;
}

std::string wav(const std::string& format, const std::string& data) {
  return riff(chunk("fmt ", format) + chunk("data", data));
}

class WavTest : public testing::Test {
 protected:
  Sound read(const std::string& bytes) const {
    write_file(folder_ / "sound.wav", bytes);
    return read_wav(folder_ / "sound.wav");
  }
  void expect_refused(const std::string& bytes, const std::string& part) const {
    const std::string text = message_of<InputError>([&] { read(bytes); });
    EXPECT_THAT(text, HasSubstr((folder_ / "sound.wav").string()));
    EXPECT_THAT(text, HasSubstr(part));
  }

  TemporaryFolder folder_;
};

TEST_F(WavTest, Pcm16) {
  const Sound sound =
      read(wav(format_body(1, 1, 16000, 16), word(0x8000, 2) + word(0x4000, 2) + word(0xFFFF, 2)));
  EXPECT_EQ(sound.sample_rate, 16000);
  EXPECT_THAT(sound.samples, ElementsAre(-1.0F, 0.5F, -1.0F / 32768));
}

TEST_F(WavTest, OtherWidths) {
  // The byte that fills the odd chunk up is no sample.
  EXPECT_THAT(read(wav(format_body(1, 1, 8000, 8), word(0x80C000, 3))).samples,
              ElementsAre(-1.0F, 0.5F, 0.0F));
  EXPECT_THAT(
      read(wav(format_body(1, 1, 44100, 24), word(0x800000, 3) + word(0x200000, 3))).samples,
      ElementsAre(-1.0F, 0.25F));
  EXPECT_THAT(read(wav(format_body(1, 1, 44100, 32), word(0xC0000000, 4))).samples,
              ElementsAre(-0.5F));
  EXPECT_THAT(
      read(wav(format_body(3, 1, 48000, 32), word(std::bit_cast<uint32_t>(0.3F), 4))).samples,
      ElementsAre(0.3F));
  EXPECT_THAT(
      read(wav(format_body(3, 1, 48000, 64), word(std::bit_cast<uint64_t>(-0.7), 8))).samples,
      ElementsAre(FloatEq(-0.7F)));
}

TEST_F(WavTest, ChannelsAreAveraged) {
  const std::string data = word(0x4000, 2) + word(0x2000, 2) + word(0x8000, 2) + word(0x7FFF, 2);
  EXPECT_THAT(read(wav(format_body(1, 2, 16000, 16), data)).samples,
              ElementsAre(0.375F, -0.5F / 32768));
}

TEST_F(WavTest, ExtensibleAndOtherChunks) {
  // Size of the extension, valid bits, speakers, and the GUID of PCM.
  const std::string extensible = format_body(0xFFFE, 1, 16000, 16) + word(22, 2) + word(16, 2) +
                                 word(4, 4) + word(1, 4) + std::string(12, '\x10');
  const std::string chunks =
      chunk("LIST", "odd") + chunk("fmt ", extensible) + chunk("fact", "1234");
  EXPECT_THAT(read(riff(chunks + chunk("data", word(0x4000, 2)) + chunk("id3 ", "x"))).samples,
              ElementsAre(0.5F));
  std::string adpcm = extensible;
  adpcm[24] = 2;
  expect_refused(wav(adpcm, ""), "encoding 2 with 16 bits");
  expect_refused(wav(extensible.substr(0, 24), ""), "has 24 bytes, not 40");
}

TEST_F(WavTest, AnEmptySoundIsOne) {
  EXPECT_TRUE(read(wav(format_body(1, 2, 16000, 16), "")).samples.empty());
}

TEST_F(WavTest, FilesThatAreNone) {
  expect_refused("", "not a WAV file: 0 bytes");
  expect_refused("RIFF", "not a WAV file: 4 bytes");
  expect_refused("RIFX" + word(4, 4) + "WAVE", "does not begin with RIFF and WAVE");
  expect_refused("RIFF" + word(4, 4) + "AVI ", "does not begin with RIFF and WAVE");
  expect_refused(riff(""), "has no chunk 'fmt '");
  expect_refused(riff(chunk("fmt ", format_body(1, 1, 16000, 16))), "has no chunk 'data'");
  expect_refused(riff(chunk("data", "12") + chunk("fmt ", format_body(1, 1, 16000, 16))),
                 "comes before 'fmt '");
  EXPECT_THAT(message_of<InputError>([&] { read_wav(folder_ / "absent.wav"); }),
              HasSubstr("absent.wav"));
}

TEST_F(WavTest, SizesThatLie) {
  const std::string format = chunk("fmt ", format_body(1, 1, 16000, 16));
  expect_refused(riff(format + "data" + word(0xFFFFFFFF, 4) + "1234"),
                 "has 4294967295 bytes, but the file ends after 4 of them: it was cut off");
  expect_refused(riff("LIST" + word(0xFFFFFFF0, 4) + format), "it was cut off");
  expect_refused(riff("fmt " + word(200, 4) + format_body(1, 1, 16000, 16)), "it was cut off");
  expect_refused(riff(format + chunk("data", "123")), "no multiple of a frame (2 bytes)");
  expect_refused(riff(chunk("fmt ", "123456")), "has 6 bytes; expected 16 or more");
}

TEST_F(WavTest, EveryCutIsRefused) {
  const std::string whole = wav(format_body(1, 1, 16000, 16), "123456");
  for (size_t length = 0; length < whole.size(); ++length) {
    message_of<InputError>([&] { read(whole.substr(0, length)); });
  }
  EXPECT_EQ(read(whole).samples.size(), 3U);
}

TEST_F(WavTest, FormatsThatContradictThemselves) {
  expect_refused(wav(format_body(1, 0, 16000, 16), ""), "0 channels; expected 1 to 1024");
  expect_refused(wav(format_body(1, 1, 0, 16), ""), "a sample rate of 0 Hz");
  expect_refused(wav(format_body(1, 1, 4'000'000'000, 16), ""), "a sample rate of 4000000000 Hz");
  expect_refused(wav(format_body(1, 1, 16000, 12), ""), "encoding 1 with 12 bits");
  expect_refused(wav(format_body(3, 1, 16000, 16), ""), "encoding 3 with 16 bits");
  expect_refused(wav(format_body(6, 1, 8000, 8), ""), "encoding 6 with 8 bits");
  std::string frame = format_body(1, 2, 16000, 16);
  frame[12] = 3;
  expect_refused(wav(frame, ""), "a frame of 3 bytes contradicts 2 channels of 16 bits");
  frame[12] = 0;
  expect_refused(wav(frame, ""), "a frame of 0 bytes");
}

TEST_F(WavTest, SamplesAreFinite) {
  expect_refused(wav(format_body(3, 1, 16000, 32), word(0, 4) + word(0x7FC00000, 4)),
                 "sample 1 is not finite");
  expect_refused(wav(format_body(3, 1, 16000, 64), word(0x7FEFFFFFFFFFFFFF, 8)),
                 "sample 0 is not finite");
}

}  // namespace
}  // namespace halftone::test
