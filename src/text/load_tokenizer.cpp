#include <array>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "text/bpe_files.h"
#include "text/json_tokenizer.h"
#include "text/loose_files.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace halftone {
namespace {

std::unique_ptr<Tokenizer> load_tokenizer_json(const TokenizerFolder& folder) {
  const fs::path file = folder.directory / "tokenizer.json";
  return std::make_unique<JsonTokenizer>(read_json_file(file), file.string(), folder.config,
                                         folder.config_source);
}

// The first one whose file is there counts.
struct TokenizerKind {
  const char* file;
  std::unique_ptr<Tokenizer> (*load)(const TokenizerFolder& folder);
};
constexpr std::array<TokenizerKind, 3> kKinds{{
    {"tokenizer.json", &load_tokenizer_json},
    {"tokenizer.model", &load_sentencepiece},
    {"vocab.json", &load_bpe_files},
}};

const TokenizerKind* find_kind(const fs::path& directory) {
  for (const TokenizerKind& kind : kKinds) {
    if (fs::exists(directory / kind.file)) return &kind;
  }
  return nullptr;
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& directory) {
  const TokenizerKind* kind = find_kind(directory);
  if (kind != nullptr) return kind->load(read_tokenizer_folder(directory));
  std::string names;
  for (const TokenizerKind& known : kKinds) names += concat(names.empty() ? "" : ", ", known.file);
  throw InputError(concat("'", directory.string(), "': no tokenizer there, looked for ", names));
}

bool has_tokenizer(const fs::path& directory) {
  return find_kind(directory) != nullptr;
}

void check_text_utf8(std::string_view text) {
  const size_t invalid = first_invalid_utf8(text);
  if (invalid == std::string_view::npos) return;
  throw InputError(concat("the text is not valid UTF-8 at byte ", invalid,
                          ": save it as UTF-8 (or convert it with iconv)"));
}

}  // namespace halftone
