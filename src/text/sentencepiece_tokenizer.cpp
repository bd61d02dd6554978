#include "text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/added_tokens.h"
#include "text/json_shape.h"
#include "text/normalizer.h"

namespace halftone {
namespace {

using sentencepiece::SentencePieceProcessor;

// What the classes add where the configuration says nothing.
struct ClassDefaults {
  const char* name;
  bool add_bos;
  bool add_eos;
};
constexpr std::array<ClassDefaults, 5> kClasses{{
    {"LlamaTokenizer", true, false},
    {"CodeLlamaTokenizer", true, false},
    {"GemmaTokenizer", true, false},
    {"T5Tokenizer", false, true},
    {"MT5Tokenizer", false, true},
}};
// Their ids are not those of the SentencePiece model.
constexpr std::array<const char*, 8> kShiftedClasses{
    "XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer",   "MBart50Tokenizer",
    "NllbTokenizer",       "XGLMTokenizer",      "BarthezTokenizer", "PegasusTokenizer"};

ClassDefaults defaults_of(const TokenizerFolder& folder) {
  const std::string name = folder.tokenizer_class();
  for (const char* shifted : kShiftedClasses) {
    if (name != shifted) continue;
    refuse_part(folder.config_source,
                concat("tokenizer_class '", name, "' without a tokenizer.json"),
                "classes whose ids are those of tokenizer.model, as LlamaTokenizer");
  }
  for (const ClassDefaults& known : kClasses) {
    if (name == known.name) return known;
  }
  return {"", false, false};
}

std::unique_ptr<SentencePieceProcessor> load(const std::string& model, const std::string& source) {
  auto processor = std::make_unique<SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto(model);
  if (!status.ok()) {
    throw InputError(concat(source, ": not a SentencePiece model: ", status.error_message()));
  }
  return processor;
}

std::vector<std::string> pieces_of(const SentencePieceProcessor& processor) {
  std::vector<std::string> pieces(static_cast<size_t>(processor.GetPieceSize()));
  for (size_t id = 0; id < pieces.size(); ++id)
    pieces[id] = processor.IdToPiece(static_cast<int>(id));
  return pieces;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(const TokenizerFolder& folder, const std::string& model,
                         const std::string& source);

  std::vector<TokenId> encode(std::string_view text, bool add_special) const override;
  std::string decode(const std::vector<TokenId>& ids, bool skip_special) const override;
  int64_t vocabulary_size() const override { return std::max(pieces_.size(), added_->size()); }
  TokenId pad_id() const override { return special_.pad(); }
  std::optional<TokenId> bos_id() const override { return special_.bos; }
  std::optional<TokenId> eos_id() const override { return special_.eos; }

 private:
  Json added_list(const TokenizerFolder& folder) const;
  void read_config(const TokenizerFolder& folder);
  // Whether the library neither finds the piece in a text nor shows it.
  bool is_control(TokenId id) const;
  // For a part of a text, by where it begins.
  const SentencePieceProcessor& processor_at(size_t begin) const {
    return begin == 0 || !inner_ ? *processor_ : *inner_;
  }

  std::unique_ptr<SentencePieceProcessor> processor_;
  // For what follows an added token, where the configuration asks for no space before it
  // ("legacy": false).
  std::unique_ptr<SentencePieceProcessor> inner_;
  Vocabulary pieces_;
  std::unique_ptr<AddedTokens> added_;
  SpecialTokens special_;
  std::optional<TokenId> before_;
  std::optional<TokenId> after_;
};

SentencePieceTokenizer::SentencePieceTokenizer(const TokenizerFolder& folder,
                                               const std::string& model, const std::string& source)
    : processor_(load(model, source)), pieces_(pieces_of(*processor_)) {
  if (!json_member_or<bool>(folder.config, "legacy", true, folder.config_source)) {
    // Protocol buffers merge what is appended: normalizer_spec {add_dummy_prefix: false}.
    inner_ = load(model + std::string("\x1A\x02\x18\x00", 4), source);
  }
  const auto unchanged = make_normalizer(nullptr, source);
  added_ =
      std::make_unique<AddedTokens>(added_list(folder), pieces_, *unchanged, folder.config_source);
  read_config(folder);
}

Json SentencePieceTokenizer::added_list(const TokenizerFolder& folder) const {
  std::unordered_map<std::string, TokenId> extra;
  const std::string name = folder.tokenizer_class();
  if (name == "T5Tokenizer" || name == "MT5Tokenizer") {
    // The sentinels stand behind the model's tokens, the last one first.
    const auto count =
        json_member_or<int64_t>(folder.config, "extra_ids", 100, folder.config_source);
    if (count < 0 || count > kMaxTokenId - pieces_.size()) {
      throw InputError(concat(folder.config_source, ": 'extra_ids' is ", count));
    }
    for (int64_t i = 0; i < count; ++i) {
      extra.emplace(concat("<extra_id_", i, ">"),
                    static_cast<TokenId>(pieces_.size() + count - 1 - i));
    }
  }
  const FindToken find = [&](std::string_view token) -> std::optional<TokenId> {
    const auto found = extra.find(std::string(token));
    return found != extra.end() ? std::optional(found->second) : pieces_.find(token);
  };
  TokenizerFolder with_extra = folder;
  if (!extra.empty()) {
    Json& names = with_extra.config["additional_special_tokens"];
    if (!names.is_array()) names = Json::array();
    for (const auto& [content, id] : extra) names.push_back(content);
  }
  Json list = Json::array();
  for (Json& token : collect_added_tokens(with_extra, find)) {
    // The library finds its own pieces, and knows better how to decode them.
    const auto id = token["id"].get<TokenId>();
    const bool own = id < pieces_.size() && !is_control(id);
    if (own && !json_member_or<bool>(token, "special", false, folder.config_source)) continue;
    list.push_back(std::move(token));
  }
  return list;
}

void SentencePieceTokenizer::read_config(const TokenizerFolder& folder) {
  const std::string& source = folder.config_source;
  special_ = read_special_tokens(folder.config, source, [this](std::string_view token) {
    const auto added = added_->find(token);
    return added ? added : pieces_.find(token);
  });
  // Where nothing else is said the model's own ids count; it has -1 for none.
  const auto fall_back = [](std::optional<TokenId>& id, int own) {
    if (!id && own >= 0) id = own;
  };
  if (!folder.config.contains("bos_token")) fall_back(special_.bos, processor_->bos_id());
  if (!folder.config.contains("eos_token")) fall_back(special_.eos, processor_->eos_id());
  const ClassDefaults defaults = defaults_of(folder);
  if (json_member_or<bool>(folder.config, "add_bos_token", defaults.add_bos, source)) {
    if (!special_.bos) throw InputError(source + ": a bos_token is to be added, and there is none");
    before_ = special_.bos;
  }
  if (json_member_or<bool>(folder.config, "add_eos_token", defaults.add_eos, source)) {
    if (!special_.eos)
      throw InputError(source + ": an eos_token is to be added, and there is none");
    after_ = special_.eos;
  }
}

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text, bool add_special) const {
  check_text_utf8(text);
  std::vector<TokenId> ids;
  if (add_special && before_) ids.push_back(*before_);
  for (const Segment& segment : added_->split_original(text)) {
    if (segment.id) {
      ids.push_back(*segment.id);
      continue;
    }
    std::vector<int> found;
    const std::string_view part = text.substr(segment.begin, segment.end - segment.begin);
    const auto status = processor_at(segment.begin).Encode({part.data(), part.size()}, &found);
    if (!status.ok()) throw InputError(concat("SentencePiece: ", status.error_message()));
    ids.insert(ids.end(), found.begin(), found.end());
  }
  if (add_special && after_) ids.push_back(*after_);
  return ids;
}

bool SentencePieceTokenizer::is_control(TokenId id) const {
  return processor_->IsControl(id) || processor_->IsUnknown(id);
}

std::string SentencePieceTokenizer::decode(const std::vector<TokenId>& ids,
                                           bool skip_special) const {
  std::string text;
  std::vector<int> run;  // pieces between added tokens
  const auto flush = [&] {
    if (run.empty()) return;
    std::string part;
    const auto status = processor_at(text.size()).Decode(run, &part);
    if (!status.ok()) throw InputError(concat("SentencePiece: ", status.error_message()));
    text += part;
    run.clear();
  };
  for (const TokenId id : ids) {
    const AddedToken* added = added_->token(id);
    const std::string* piece = added != nullptr ? &added->content : pieces_.token(id);
    if (piece == nullptr) {
      throw InputError(
          concat("no token has the id ", id, ": the vocabulary ends at ", vocabulary_size() - 1));
    }
    if ((added != nullptr ? added->special : is_control(id)) && skip_special) continue;
    if (added == nullptr && !is_control(id)) {
      run.push_back(id);
      continue;
    }
    flush();
    text += *piece;
  }
  flush();
  return text;
}

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const TokenizerFolder& folder) {
  const fs::path file = folder.directory / "tokenizer.model";
  return std::make_unique<SentencePieceTokenizer>(folder, read_text_file(file), file.string());
}

}  // namespace halftone
