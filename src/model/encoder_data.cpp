#include "model/encoder_data.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "io/wav.h"
#include "model/log_mel.h"
#include "model/resample.h"

namespace halftone {
namespace {

struct FoundId {
  int64_t id = 0;
  std::string where;  // file and key
};

std::optional<FoundId> find_id(const Json& json, const char* key, const std::string& source) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::nullopt;
  return FoundId{json_member<int64_t>(json, key, source), concat(source, ": ", key)};
}

FoundId start_id(const Checkpoint& checkpoint) {
  constexpr const char* kStart = "decoder_start_token_id";
  const std::string config = checkpoint.config_source();
  const fs::path generation =
      checkpoint.files().value_or(checkpoint.directory()) / "generation_config.json";
  auto found = find_id(checkpoint.config(), kStart, config);
  if (!found && fs::exists(generation)) {
    found = find_id(read_json_file(generation), kStart, generation.string());
  }
  if (!found) found = find_id(checkpoint.config(), "pad_token_id", config);
  if (!found) {
    throw InputError(
        concat(config, ": '", kStart, "' is missing: the decoder needs it to ", "begin with"));
  }
  return *found;
}

std::vector<float> read_sound(const fs::path& file, const LogMelOptions& options) {
  Sound sound = read_wav(file);
  if (sound.sample_rate == options.sample_rate) return std::move(sound.samples);
  return resample(sound.samples, sound.sample_rate, options.sample_rate, options.samples());
}

}  // namespace

std::optional<DecoderOptions> decoder_options(const Checkpoint& checkpoint, const Model& model) {
  if (!model.has_encoder()) return std::nullopt;
  const FoundId start = start_id(checkpoint);
  if (start.id < 0 || start.id >= model.vocabulary()) {
    throw InputError(concat(start.where, " is ", start.id, ", but the model has ids 0 to ",
                            model.vocabulary() - 1));
  }
  DecoderOptions options;
  options.start = static_cast<TokenId>(start.id);
  options.audio = model.hears_sound();
  return options;
}

void add_features(std::vector<Batch>& batches, const Checkpoint& checkpoint) {
  std::optional<LogMel> log_mel;
  for (Batch& batch : batches) {
    if (!batch.encoder || batch.encoder->audio.empty()) continue;
    if (!log_mel) log_mel.emplace(log_mel_options(checkpoint));
    EncoderBatch& encoder = *batch.encoder;
    encoder.channels = log_mel->options().mel_bins;
    encoder.length = log_mel->options().frames;
    encoder.features.clear();
    for (const fs::path& file : encoder.audio) {
      const at::Tensor features_MT = log_mel->features(read_sound(file, log_mel->options()));
      const auto* begin = features_MT.const_data_ptr<float>();
      encoder.features.insert(encoder.features.end(), begin, begin + features_MT.numel());
    }
  }
}

}  // namespace halftone
