#include "text/loose_files.h"

#include <charconv>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {
namespace {

class Collector {
 public:
  Collector(const TokenizerFolder& folder, const FindToken& find) : folder_(folder), find_(find) {}

  Json collect() {
    read_decoder();
    read_added_file();
    for (const char* role : kTokenRoles) {
      const auto content = token_content(folder_.config, role, folder_.config_source);
      if (content) add_special(*content);
    }
    read_additional();
    Json list = Json::array();
    for (auto& [id, token] : by_id_) list.push_back(std::move(token));
    return list;
  }

 private:
  void add(TokenId id, Json token) {
    token["id"] = id;
    // The tokenizers of these files look for all of them in the text as it is.
    token["normalized"] = false;
    ids_.insert_or_assign(json_member<std::string>(token, "content", folder_.config_source), id);
    by_id_.insert_or_assign(id, std::move(token));
  }

  void add_special(const std::string& content) {
    if (ids_.contains(content)) return;
    if (const auto id = find_(content)) add(*id, {{"content", content}, {"special", true}});
  }

  // {"32000": {"content": "<x>", "lstrip": ...}}
  void read_decoder() {
    if (!folder_.config.contains("added_tokens_decoder")) return;
    const std::string& source = folder_.config_source;
    for (const auto& [key, token] :
         object_member(folder_.config, "added_tokens_decoder", source).items()) {
      const std::string place = concat(source, ", added_tokens_decoder, '", key, "'");
      expect_object(token, place);
      int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size()) id = -1;
      json_member<std::string>(token, "content", place);
      add(token_id(id, place), token);
    }
  }

  // {"<x>": 32000}
  void read_added_file() {
    const fs::path path = folder_.directory / "added_tokens.json";
    if (!fs::exists(path)) return;
    const Json added = read_json_file(path);
    expect_object(added, path.string());
    for (const auto& [content, id] : added.items()) {
      if (ids_.contains(content)) continue;
      add(token_id(id, concat(path.string(), ", '", content, "'")),
          {{"content", content}, {"special", false}});
    }
  }

  void read_additional() {
    const char* key = "additional_special_tokens";
    if (!folder_.config.contains(key) || folder_.config[key].is_null()) return;
    for (const Json& token : array_member(folder_.config, key, folder_.config_source)) {
      const Json holder = {{key, token}};
      if (const auto content = token_content(holder, key, folder_.config_source)) {
        add_special(*content);
      }
    }
  }

  const TokenizerFolder& folder_;
  const FindToken& find_;
  std::map<TokenId, Json> by_id_;
  std::map<std::string, TokenId> ids_;
};

}  // namespace

std::string TokenizerFolder::tokenizer_class() const {
  auto name = json_member_or<std::string>(config, "tokenizer_class", "", config_source);
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

TokenizerFolder read_tokenizer_folder(const fs::path& directory) {
  const fs::path file = directory / "tokenizer_config.json";
  TokenizerFolder folder{directory, Json::object(), file.string()};
  if (fs::exists(file)) folder.config = read_json_file(file);
  expect_object(folder.config, folder.config_source);
  const fs::path map_file = directory / "special_tokens_map.json";
  if (!fs::exists(map_file)) return folder;
  const Json map = read_json_file(map_file);
  expect_object(map, map_file.string());
  for (const auto& [key, value] : map.items()) {
    if (!folder.config.contains(key)) folder.config[key] = value;
  }
  return folder;
}

Json collect_added_tokens(const TokenizerFolder& folder, const FindToken& find) {
  return Collector(folder, find).collect();
}

}  // namespace halftone
