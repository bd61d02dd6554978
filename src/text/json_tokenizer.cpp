#include "text/json_tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"
#include "text/utf8.h"

namespace halftone {
namespace {

// The member, or null where it is absent.
const Json& part_of(const Json& file, const char* key) {
  static const Json null;
  const auto found = file.find(key);
  return found == file.end() ? null : *found;
}

const Json& checked_file(const Json& file, const std::string& source) {
  expect_object(file, source);
  return file;
}

const Json& added_list(const Json& file, const std::string& source) {
  static const Json none = Json::array();
  return part_of(file, "added_tokens").is_null() ? none
                                                 : array_member(file, "added_tokens", source);
}

}  // namespace

JsonTokenizer::JsonTokenizer(const Json& file, const std::string& source, const Json& config,
                             const std::string& config_source)
    : normalizer_(make_normalizer(part_of(checked_file(file, source), "normalizer"),
                                  source + ", normalizer")),
      model_(make_token_model(object_member(file, "model", source), source)),
      added_(added_list(file, source), model_->vocabulary(), *normalizer_, source),
      pre_tokenizer_(
          make_pre_tokenizer(part_of(file, "pre_tokenizer"), source + ", pre_tokenizer")),
      post_processor_(part_of(file, "post_processor"), source),
      decoder_(make_decoder(part_of(file, "decoder"), source + ", decoder")) {
  check_template(source);
  read_config(config, config_source);
}

// A template names ids that need not exist; batches and embeddings rely on it.
void JsonTokenizer::check_template(const std::string& source) const {
  for (const auto* ids : {&post_processor_.before(), &post_processor_.after()}) {
    for (const TokenId id : *ids) {
      if (added_.token(id) != nullptr || model_->vocabulary().token(id) != nullptr) continue;
      throw InputError(concat(source, ", post_processor: no token has the id ", id));
    }
  }
}

std::optional<TokenId> JsonTokenizer::find_token(std::string_view token) const {
  const auto added = added_.find(token);
  return added ? added : model_->vocabulary().find(token);
}

void JsonTokenizer::read_config(const Json& config, const std::string& source) {
  special_ = read_special_tokens(config, source,
                                 [this](std::string_view token) { return find_token(token); });
  if (json_member_or<bool>(config, "add_bos_token", false, source)) {
    if (!special_.bos) {
      throw InputError(concat(source, ": 'add_bos_token' is true without a bos_token"));
    }
    post_processor_.ensure_first(*special_.bos);
  }
  if (json_member_or<bool>(config, "add_eos_token", false, source)) {
    if (!special_.eos) {
      throw InputError(concat(source, ": 'add_eos_token' is true without an eos_token"));
    }
    post_processor_.ensure_last(*special_.eos);
  }
}

int64_t JsonTokenizer::vocabulary_size() const {
  return std::max(model_->vocabulary().size(), added_.size());
}

// `text` holds no added token that is looked for before normalization.
void JsonTokenizer::append_text(NormalizedText text, std::vector<TokenId>& ids) const {
  normalizer_->apply(text);
  const Piece whole{text.text, text.at_start};
  for (const Segment& segment : added_.split_normalized(text.text)) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    Pieces pieces(whole.cut(segment.begin, segment.end));
    pre_tokenizer_->apply(pieces);
    for (const Piece& piece : pieces.list) model_->append_ids(piece.text, ids);
  }
}

std::vector<TokenId> JsonTokenizer::encode(std::string_view text, bool add_special) const {
  check_text_utf8(text);
  std::vector<TokenId> ids;
  if (add_special) ids = post_processor_.before();
  for (const Segment& segment : added_.split_original(text)) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    const std::string_view between = text.substr(segment.begin, segment.end - segment.begin);
    const size_t at_start = segment.begin == 0 ? utf8_char_at(between, 0).bytes : 0;
    append_text({std::string(between), at_start}, ids);
  }
  if (add_special) {
    ids.insert(ids.end(), post_processor_.after().begin(), post_processor_.after().end());
  }
  return ids;
}

std::string JsonTokenizer::decode(const std::vector<TokenId>& ids, bool skip_special) const {
  std::vector<std::string> tokens;
  for (const TokenId id : ids) {
    const AddedToken* added = added_.token(id);
    const std::string* token =
        added != nullptr ? &added->normalized_content : model_->vocabulary().token(id);
    if (token == nullptr) {
      throw InputError(
          concat("no token has the id ", id, ": the vocabulary ends at ", vocabulary_size() - 1));
    }
    if (skip_special && added_.is_special(*token)) continue;
    tokens.push_back(*token);
  }
  decoder_->apply(tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

}  // namespace halftone
