#include "model/decoder_config.h"

namespace halftone {

TextModel text_model(const ModelInput& input, bool tied_by_default) {
  const ConfigReader whole(input.config, input.source);
  const bool wrapped = whole.has("text_config");
  TextModel text{wrapped ? whole.object("text_config") : whole};
  const bool tied = text.config.flag_or("tie_word_embeddings", tied_by_default);
  text.tied = whole.flag_or("tie_word_embeddings", tied);
  if (!wrapped) return text;
  // Published checkpoints wrap the whole text model; newer ones wrap what is below the head; a
  // tower saved alone has no prefix.
  const auto has = [&](const std::string& prefix) {
    return input.has_tensor && input.has_tensor(prefix + "embed_tokens.weight");
  };
  if (has("model.language_model.")) {
    text.model = "model.language_model.";
  } else if (!has("model.")) {
    text.model = "language_model.model.";
    const bool outside = input.has_tensor && input.has_tensor("lm_head.weight");
    if (!outside) text.head = "language_model.lm_head";
  }
  for (const char* prefix :
       {"vision_model.", "vision_tower.", "multi_modal_projector.", "audio_tower."}) {
    text.carried_prefixes.push_back(prefix);
    text.carried_prefixes.push_back(std::string("model.") + prefix);
  }
  return text;
}

void use_text_model(const TextModel& text, DecoderSpec& model) {
  model.model = text.model;
  model.head = text.head;
  model.tied = text.tied;
  model.carried_prefixes = text.carried_prefixes;
}

}  // namespace halftone
