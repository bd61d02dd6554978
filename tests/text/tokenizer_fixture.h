#pragma once

#include <memory>
#include <string>

#include "core/json.h"
#include "tests/core/temporary_folder.h"
#include "text/tokenizer.h"

namespace halftone {

inline fs::path fixture_folder(const std::string& kind) {
  return fs::path(HALFTONE_TEST_DATA) / "tokenizers" / kind;
}

inline std::unique_ptr<Tokenizer> load_from(const Json& file, const Json& config) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", file.dump());
  folder.write("tokenizer_config.json", config.dump());
  return load_tokenizer(folder.path());
}

inline Json added_token(const std::string& content, int64_t id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// A tokenizer.json small enough to follow by hand: bytes 'a'..'d' and the space (U+0120) are ids 0
// to 4, "ab" 5, "abc" 6, "cd" 7, " a" 8; "dd" 9 has no merge.
inline Json small_tokenizer() {
  return parse_json(R"({
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "added_tokens": [],
    "model": {
      "type": "BPE", "unk_token": null, "byte_fallback": false,
      "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "\u0120": 4, "ab": 5, "abc": 6, "cd": 7,
                "\u0120a": 8, "dd": 9},
      "merges": ["c d", "a b", ["ab", "c"], ["\u0120", "a"]]
    }
  })",
                    "small");
}

}  // namespace halftone
