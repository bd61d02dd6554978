#include "text/pre_tokenizer.h"

#include <array>
#include <utility>
#include <vector>

#include "core/log.h"
#include "text/byte_alphabet.h"
#include "text/metaspace.h"
#include "text/part_registry.h"
#include "text/splitter.h"

namespace halftone {
namespace {

constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> members)
      : members_(std::move(members)) {}
  void apply(Pieces& pieces) const override {
    for (const auto& member : members_) member->apply(pieces);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> members_;
};

// Words of GPT-2, and every byte as its character of the byte alphabet.
class ByteLevelPreTokenizer : public PreTokenizer {
 public:
  ByteLevelPreTokenizer(bool add_prefix_space, std::unique_ptr<PreTokenizer> splitter)
      : add_prefix_space_(add_prefix_space), splitter_(std::move(splitter)) {}

  void apply(Pieces& pieces) const override {
    for (Piece& piece : pieces.list) {
      if (!add_prefix_space_ || piece.text.starts_with(' ')) continue;
      piece.text = pieces.keep(concat(" ", piece.text));
      if (piece.at_start > 0) ++piece.at_start;
    }
    if (splitter_ != nullptr) splitter_->apply(pieces);
    encode(pieces);
  }

 private:
  static void encode(Pieces& pieces) {
    const ByteAlphabet& alphabet = ByteAlphabet::instance();
    std::string text;
    std::vector<std::pair<size_t, size_t>> ends;  // of the pieces and of their starts
    for (const Piece& piece : pieces.list) {
      const size_t start = std::min(piece.at_start, piece.text.size());
      alphabet.append_encoded(piece.text.substr(0, start), text);
      const size_t start_end = text.size();
      alphabet.append_encoded(piece.text.substr(start), text);
      ends.emplace_back(text.size(), start_end);
    }
    const std::string_view kept = pieces.keep(std::move(text));
    size_t begin = 0;
    for (size_t i = 0; i < pieces.list.size(); ++i) {
      const auto [end, start_end] = ends[i];
      pieces.list[i] = {kept.substr(begin, end - begin), start_end - begin};
      begin = end;
    }
  }

  bool add_prefix_space_;
  std::unique_ptr<PreTokenizer> splitter_;
};

std::unique_ptr<PreTokenizer> make_nothing(const Json& /*part*/, const std::string& /*source*/) {
  return std::make_unique<PreTokenizerSequence>(std::vector<std::unique_ptr<PreTokenizer>>());
}

std::unique_ptr<PreTokenizer> make_sequence(const Json& part, const std::string& source) {
  std::vector<std::unique_ptr<PreTokenizer>> members;
  for (const Json& member : array_member(part, "pretokenizers", source)) {
    members.push_back(make_pre_tokenizer(member, source));
  }
  return std::make_unique<PreTokenizerSequence>(std::move(members));
}

std::unique_ptr<PreTokenizer> make_byte_level(const Json& part, const std::string& source) {
  std::unique_ptr<PreTokenizer> splitter;
  if (json_member_or<bool>(part, "use_regex", true, source)) {
    const auto words = std::make_shared<const Regex>(kByteLevelPattern, source);
    splitter = std::make_unique<Splitter>(
        [words](std::string_view text) { return words->find_all(text); }, SplitBehavior::kIsolated);
  }
  return std::make_unique<ByteLevelPreTokenizer>(
      json_member_or<bool>(part, "add_prefix_space", true, source), std::move(splitter));
}

std::unique_ptr<PreTokenizer> make_bert(const Json& /*part*/, const std::string& source) {
  std::vector<std::unique_ptr<PreTokenizer>> members;
  members.push_back(make_whitespace_split(Json::object(), source));
  members.push_back(make_punctuation(Json::object(), source));
  return std::make_unique<PreTokenizerSequence>(std::move(members));
}

constexpr std::array<PartKind<PreTokenizer>, 11> kPreTokenizers{{
    {"null", &make_nothing},
    {"Sequence", &make_sequence},
    {"Split", &make_split},
    {"Digits", &make_digits},
    {"ByteLevel", &make_byte_level},
    {"Metaspace", &make_metaspace},
    {"Whitespace", &make_whitespace},
    {"WhitespaceSplit", &make_whitespace_split},
    {"Punctuation", &make_punctuation},
    {"CharDelimiterSplit", &make_char_delimiter},
    {"BertPreTokenizer", &make_bert},
}};

}  // namespace

std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& part, const std::string& source) {
  return make_part<PreTokenizer>(kPreTokenizers, part, source);
}

}  // namespace halftone
