#include "text/byte_level_tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "text/byte_alphabet.h"
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

void check_normalizer(const Json& part, const std::string& source) {
  const std::string type = part_type(part, source);
  if (type == "null") return;
  if (type != "Sequence") {
    refuse_part(source, concat("type '", type, "'"), "null, an empty Sequence");
  }
  for (const Json& member : array_member(part, "normalizers", source)) {
    check_normalizer(member, source);
  }
}

void check_decoder(const Json& part, const std::string& source) {
  const std::string type = part_type(part, source);
  if (type != "ByteLevel") refuse_part(source, concat("type '", type, "'"), "ByteLevel");
}

const Json& checked_file(const Json& file, const std::string& source) {
  expect_object(file, source);
  check_normalizer(part_of(file, "normalizer"), source + ", normalizer");
  return file;
}

const Json& added_list(const Json& file, const std::string& source) {
  static const Json none = Json::array();
  return part_of(file, "added_tokens").is_null() ? none
                                                 : array_member(file, "added_tokens", source);
}

}  // namespace

ByteLevelTokenizer::ByteLevelTokenizer(const Json& file, const std::string& source,
                                       const Json& config, const std::string& config_source)
    : bpe_(object_member(checked_file(file, source), "model", source), source),
      added_(added_list(file, source), bpe_.vocabulary(), source),
      pre_tokenizer_(part_of(file, "pre_tokenizer"), source),
      post_processor_(part_of(file, "post_processor"), source) {
  check_decoder(part_of(file, "decoder"), source + ", decoder");
  check_template(source);
  read_config(config, config_source);
}

// A template names ids that need not exist; batches and embeddings rely on it.
void ByteLevelTokenizer::check_template(const std::string& source) const {
  for (const auto* ids : {&post_processor_.before(), &post_processor_.after()}) {
    for (const TokenId id : *ids) {
      if (added_.token(id) != nullptr || bpe_.vocabulary().token(id) != nullptr) continue;
      throw InputError(concat(source, ", post_processor: no token has the id ", id));
    }
  }
}

std::optional<TokenId> ByteLevelTokenizer::find_token(std::string_view token) const {
  const auto added = added_.find(token);
  return added ? added : bpe_.vocabulary().find(token);
}

// "<s>" or {"content": "<s>", ...}.
std::optional<TokenId> ByteLevelTokenizer::configured_token(const Json& config, const char* key,
                                                            const std::string& source) const {
  const Json& value = part_of(config, key);
  if (value.is_null()) return std::nullopt;
  const std::string content = value.is_object() ? json_member<std::string>(value, "content", source)
                                                : json_member<std::string>(config, key, source);
  const auto id = find_token(content);
  if (!id) log_warn(source, ": ", key, " '", content, "' is not in tokenizer.json and is ignored");
  return id;
}

void ByteLevelTokenizer::read_config(const Json& config, const std::string& source) {
  expect_object(config, source);
  bos_ = configured_token(config, "bos_token", source);
  eos_ = configured_token(config, "eos_token", source);
  const auto pad = configured_token(config, "pad_token", source);
  pad_ = pad.value_or(eos_.value_or(bos_.value_or(0)));
  if (json_member_or<bool>(config, "add_bos_token", false, source)) {
    if (!bos_) throw InputError(concat(source, ": 'add_bos_token' is true without a bos_token"));
    post_processor_.ensure_first(*bos_);
  }
  if (json_member_or<bool>(config, "add_eos_token", false, source)) {
    if (!eos_) throw InputError(concat(source, ": 'add_eos_token' is true without an eos_token"));
    post_processor_.ensure_last(*eos_);
  }
}

int64_t ByteLevelTokenizer::vocabulary_size() const {
  return std::max(bpe_.vocabulary().size(), added_.size());
}

std::vector<TokenId> ByteLevelTokenizer::encode(std::string_view text, bool add_special) const {
  const size_t invalid = first_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    throw InputError(concat("the text is not valid UTF-8 at byte ", invalid,
                            ": save it as UTF-8 (or convert it with iconv)"));
  }
  std::vector<TokenId> ids;
  if (add_special) ids = post_processor_.before();
  for (const Segment& segment : added_.split(text)) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    const Words pieces = pre_tokenizer_.split(segment.text);
    for (const std::string_view word : pieces.words) bpe_.append_ids(word, ids);
  }
  if (add_special) {
    ids.insert(ids.end(), post_processor_.after().begin(), post_processor_.after().end());
  }
  return ids;
}

std::string ByteLevelTokenizer::decode(const std::vector<TokenId>& ids, bool skip_special) const {
  const ByteAlphabet& alphabet = ByteAlphabet::instance();
  std::string bytes;
  for (const TokenId id : ids) {
    const AddedToken* added = added_.token(id);
    const std::string* token = added != nullptr ? &added->content : bpe_.vocabulary().token(id);
    if (token == nullptr) {
      throw InputError(
          concat("no token has the id ", id, ": the vocabulary ends at ", vocabulary_size() - 1));
    }
    if (skip_special && added != nullptr && added->special) continue;
    // A token with a character outside the alphabet stands for itself.
    bytes += alphabet.decode(*token).value_or(*token);
  }
  return lossy_utf8(bytes);
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& directory) {
  const fs::path file = directory / "tokenizer.json";
  const fs::path config_file = directory / "tokenizer_config.json";
  const Json config = fs::exists(config_file) ? read_json_file(config_file) : Json::object();
  return std::make_unique<ByteLevelTokenizer>(read_json_file(file), file.string(), config,
                                              config_file.string());
}

}  // namespace halftone
