#include "model/log_mel.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/log.h"
#include "model/config_reader.h"

namespace halftone {
namespace {

constexpr double kMaxFrequency = 8000.0;
// A minute at the highest rate and some more.
constexpr int64_t kMaxSamples = int64_t{1} << 26;

// Slaney's mel scale: linear to 1000 Hz (15 mel), then logarithmic.
constexpr double kHertzPerMel = 200.0 / 3.0;
constexpr double kBendHertz = 1000.0;
constexpr double kBendMel = kBendHertz / kHertzPerMel;
const double kLogStep = std::log(6.4) / 27.0;

double mel_of_hertz(double hertz) {
  if (hertz < kBendHertz) return hertz / kHertzPerMel;
  return kBendMel + std::log(hertz / kBendHertz) / kLogStep;
}

double hertz_of_mel(double mel) {
  if (mel < kBendMel) return mel * kHertzPerMel;
  return kBendHertz * std::exp(kLogStep * (mel - kBendMel));
}

void read_preprocessor(const ConfigReader& config, LogMelOptions& options) {
  const int64_t mel_bins = config.size_or("feature_size", options.mel_bins);
  if (mel_bins != options.mel_bins) {
    config.fail("feature_size (", mel_bins, ") contradicts num_mel_bins of config.json (",
                options.mel_bins, ")");
  }
  options.sample_rate = config.size_or("sampling_rate", options.sample_rate);
  options.fft_size = config.size_or("n_fft", options.fft_size);
  options.hop = config.size_or("hop_length", options.hop);
  options.padding_value = config.number_or("padding_value", 0.0);
  if (config.number_or("dither", 0.0) != 0.0) {
    log_warn(config.source(), ": dither is left out: it is random");
  }
  if (options.samples() > kMaxSamples || options.fft_size / 2 >= options.samples()) {
    config.fail("hop_length (", options.hop, ") and n_fft (", options.fft_size,
                ") do not suit the encoder's ", options.frames, " frames");
  }
}

}  // namespace

LogMelOptions log_mel_options(const Checkpoint& checkpoint) {
  const ConfigReader config(checkpoint.config(), checkpoint.config_source());
  LogMelOptions options;
  options.mel_bins = config.size_or("num_mel_bins", 80);
  options.frames = 2 * config.size_or("max_source_positions", 1500);
  const fs::path folder = checkpoint.files().value_or(checkpoint.directory());
  const fs::path preprocessor = folder / "preprocessor_config.json";
  const fs::path processor = folder / "processor_config.json";
  if (fs::exists(preprocessor)) {
    const Json json = read_json_file(preprocessor);
    read_preprocessor(ConfigReader(json, preprocessor.string()), options);
  } else if (fs::exists(processor)) {
    const Json json = read_json_file(processor);
    const ConfigReader whole(json, processor.string());
    if (whole.has("feature_extractor")) {
      read_preprocessor(whole.object("feature_extractor"), options);
    }
  }
  return options;
}

at::Tensor mel_filters(const LogMelOptions& options) {
  const int64_t bins = options.fft_size / 2 + 1;
  const int64_t mels = options.mel_bins;
  const double nyquist = static_cast<double>(options.sample_rate / 2);
  const double last_mel = mel_of_hertz(kMaxFrequency);
  const auto edge = [&](int64_t i) {
    return hertz_of_mel(last_mel * static_cast<double>(i) / static_cast<double>(mels + 1));
  };
  at::Tensor filters = at::empty({bins, mels}, at::kFloat);
  auto* value = filters.mutable_data_ptr<float>();
  for (int64_t bin = 0; bin < bins; ++bin) {
    const double hertz = nyquist * static_cast<double>(bin) / static_cast<double>(bins - 1);
    for (int64_t mel = 0; mel < mels; ++mel) {
      const double left = edge(mel);
      const double middle = edge(mel + 1);
      const double right = edge(mel + 2);
      const double rising = (hertz - left) / (middle - left);
      const double falling = (right - hertz) / (right - middle);
      const double height = std::max(0.0, std::min(rising, falling));
      *value++ = static_cast<float>(height * 2.0 / (right - left));
    }
  }
  return filters;
}

LogMel::LogMel(const LogMelOptions& options)
    : options_(options),
      window_(at::hann_window(options.fft_size, at::kFloat)),
      filters_(mel_filters(options)) {}

// Row by row and not as a matrix product, whose last bits may depend on the number of threads.
at::Tensor LogMel::filtered(const at::Tensor& power_FT) const {
  const at::Tensor wide_FT = power_FT.to(at::kDouble);
  at::Tensor mel_MT = at::zeros({options_.mel_bins, options_.frames}, at::kDouble);
  const auto* weight = filters_.const_data_ptr<float>();
  for (int64_t bin = 0; bin < filters_.size(0); ++bin) {
    for (int64_t mel = 0; mel < filters_.size(1); ++mel, ++weight) {
      if (*weight != 0.0F) mel_MT[mel].add_(wide_FT[bin], static_cast<double>(*weight));
    }
  }
  return mel_MT.to(at::kFloat);
}

at::Tensor LogMel::features(const std::vector<float>& samples) const {
  at::Tensor padded = at::full({options_.samples()}, options_.padding_value, at::kFloat);
  const int64_t count = std::min(options_.samples(), std::ssize(samples));
  std::copy_n(samples.begin(), count, padded.mutable_data_ptr<float>());
  const at::Tensor spectrum_FT =
      at::stft(padded, options_.fft_size, options_.hop, /*win_length=*/options_.fft_size, window_,
               /*center=*/true, /*pad_mode=*/"reflect", /*normalized=*/false, /*onesided=*/true,
               /*return_complex=*/true);
  // The frame behind the last sample is left out, as Whisper was trained.
  const at::Tensor power_FT = spectrum_FT.slice(1, 0, options_.frames).abs().pow(2);
  const at::Tensor log_MT = filtered(power_FT).clamp_min(1e-10).log10();
  return ((at::maximum(log_MT, log_MT.max() - 8.0) + 4.0) / 4.0).contiguous();
}

}  // namespace halftone
