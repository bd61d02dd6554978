#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "text/json_tokenizer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace halftone {

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& directory) {
  const fs::path file = directory / "tokenizer.json";
  const fs::path config_file = directory / "tokenizer_config.json";
  const Json config = fs::exists(config_file) ? read_json_file(config_file) : Json::object();
  return std::make_unique<JsonTokenizer>(read_json_file(file), file.string(), config,
                                         config_file.string());
}

bool has_tokenizer(const fs::path& directory) {
  return fs::exists(directory / "tokenizer.json");
}

void check_text_utf8(std::string_view text) {
  const size_t invalid = first_invalid_utf8(text);
  if (invalid == std::string_view::npos) return;
  throw InputError(concat("the text is not valid UTF-8 at byte ", invalid,
                          ": save it as UTF-8 (or convert it with iconv)"));
}

}  // namespace halftone
