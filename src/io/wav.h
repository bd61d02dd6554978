#pragma once

#include <vector>

#include "core/files.h"

namespace halftone {

// Sound of one channel.
struct Sound {
  int64_t sample_rate = 0;     // in Hz
  std::vector<float> samples;  // full scale is -1 to 1
};

// Reads a RIFF/WAVE file: PCM of 8, 16, 24 or 32 bits or IEEE floats of 32 or 64, plain or in
// WAVE_FORMAT_EXTENSIBLE; several channels are averaged. Other encodings, sizes that contradict
// each other or the file's length, rates outside kMinSampleRate to kMaxSampleRate, samples that are
// not finite: InputError naming the file.
constexpr int64_t kMinSampleRate = 1000;
constexpr int64_t kMaxSampleRate = 768'000;
Sound read_wav(const fs::path& path);

}  // namespace halftone
