#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "io/checkpoint.h"

namespace halftone {

// Whisper's front end (Radford et al. 2022); values of its published models.
struct LogMelOptions {
  int64_t mel_bins = 80;
  int64_t sample_rate = 16000;
  int64_t fft_size = 400;
  int64_t hop = 160;
  int64_t frames = 3000;
  double padding_value = 0.0;  // of samples behind the end

  int64_t samples() const { return frames * hop; }
};

// From config.json (num_mel_bins, max_source_positions: the frames are what the encoder reads) and
// preprocessor_config.json, where there is one, or "feature_extractor" of processor_config.json, as
// transformers 5 writes it. InputError when they contradict each other.
LogMelOptions log_mel_options(const Checkpoint& checkpoint);

// The triangular filters [fft_size / 2 + 1, mel_bins] from 0 to 8000 Hz on Slaney's mel scale, each
// of area 1 (librosa's norm "slaney"), in fp32.
at::Tensor mel_filters(const LogMelOptions& options);

// log10 of the mel spectrum in a window of 80 dB under its largest value, about -1 to 1: what
// transformers' WhisperFeatureExtractor gives, without its optional dither.
class LogMel {
 public:
  explicit LogMel(const LogMelOptions& options);

  const LogMelOptions& options() const { return options_; }
  // Samples at options().sample_rate, cut or padded to options().samples(): fp32 [mel_bins,
  // frames].
  at::Tensor features(const std::vector<float>& samples) const;

 private:
  at::Tensor filtered(const at::Tensor& power_FT) const;

  LogMelOptions options_;
  at::Tensor window_;
  at::Tensor filters_;
};

}  // namespace halftone
