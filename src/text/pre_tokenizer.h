#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/regex.h"

namespace halftone {

// The words of a text. They point into the text, or into `prefixed` where a space was put before.
struct Words {
  std::vector<std::string_view> words;
  std::deque<std::string> prefixed;
};

// The "pre_tokenizer" of byte-level files: any number of Split and Digits, then ByteLevel.
class PreTokenizer {
 public:
  PreTokenizer(const Json& part, const std::string& source);

  Words split(std::string_view text) const;

 private:
  struct Split {
    Regex regex;
    bool keep_matches = true;
    bool keep_gaps = true;

    // Cuts every word of `words`; empty pieces are dropped.
    void apply(std::vector<std::string_view>& words) const;
  };

  void add(const Json& part, const std::string& source);
  void add_split(const Json& part, const std::string& source);
  void add_byte_level(const Json& part, const std::string& source);

  std::vector<Split> splits_;
  bool has_byte_level_ = false;
  bool add_prefix_space_ = false;
  std::optional<Split> byte_level_split_;
};

}  // namespace halftone
