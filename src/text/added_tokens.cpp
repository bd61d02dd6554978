#include "text/added_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"
#include "text/utf8.h"

namespace halftone {
namespace {

AddedToken read_token(const Json& value, const std::string& source) {
  expect_object(value, source);
  AddedToken token;
  token.content = json_member<std::string>(value, "content", source);
  if (!value.contains("id")) throw InputError(concat(source, ": the key 'id' is missing"));
  token.id = token_id(value["id"], concat(source, ", 'id'"));
  token.single_word = json_member_or<bool>(value, "single_word", false, source);
  token.lstrip = json_member_or<bool>(value, "lstrip", false, source);
  token.rstrip = json_member_or<bool>(value, "rstrip", false, source);
  token.special = json_member_or<bool>(value, "special", false, source);
  token.normalized = json_member_or<bool>(value, "normalized", !token.special, source);
  return token;
}

}  // namespace

void AddedTokens::Trie::insert(std::string_view content, const AddedToken& token) {
  size_t node = 0;
  for (const char c : content) {
    const uint64_t key = node << 8 | static_cast<unsigned char>(c);
    const auto [edge, is_new] = edges_.emplace(key, tokens_.size());
    if (is_new) tokens_.push_back(nullptr);
    node = edge->second;
  }
  tokens_[node] = &token;
}

AddedTokens::Trie::Match AddedTokens::Trie::longest(std::string_view text, size_t at) const {
  Match found;
  size_t node = 0;
  for (; at < text.size(); ++at) {
    const auto edge = edges_.find(node << 8 | static_cast<unsigned char>(text[at]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (tokens_[node] != nullptr) found = {tokens_[node], at + 1};
  }
  return found;
}

AddedTokens::AddedTokens(const Json& list, const Vocabulary& vocabulary,
                         const Normalizer& normalizer, const std::string& source)
    : word_(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])", source) {
  size_t index = 0;
  for (const Json& value : list) {
    const std::string place = concat(source, ", added_tokens[", index++, "]");
    AddedToken token = read_token(value, place);
    if (token.content.empty()) throw InputError(concat(place, ": 'content' is empty"));
    const std::string* holder = vocabulary.token(token.id);
    if (holder != nullptr && *holder != token.content) {
      throw InputError(concat(place, ": '", token.content, "' has the id ", token.id,
                              ", which is '", *holder, "' in model.vocab"));
    }
    const auto in_vocabulary = vocabulary.find(token.content);
    if (in_vocabulary && *in_vocabulary != token.id) {
      throw InputError(concat(place, ": '", token.content, "' has the id ", token.id, ", but ",
                              *in_vocabulary, " in model.vocab"));
    }
    if (!by_content_.emplace(token.content, token.id).second) {
      throw InputError(concat(place, ": '", token.content, "' is there twice"));
    }
    token.normalized_content = token.content;
    if (token.normalized) {
      NormalizedText text{token.content, 0};
      normalizer.apply(text);
      token.normalized_content = text.text;
    }
    const auto [entry, is_new] = by_id_.emplace(token.id, token);
    if (!is_new) {
      throw InputError(concat(place, ": '", token.content, "' and '", entry->second.content,
                              "' have the same id ", token.id));
    }
    (token.normalized ? normalized_ : raw_).insert(token.normalized_content, entry->second);
  }
}

std::optional<TokenId> AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(content);
  if (found == by_content_.end()) return std::nullopt;
  return found->second;
}

const AddedToken* AddedTokens::token(TokenId id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

bool AddedTokens::is_special(std::string_view content) const {
  const auto id = find(content);
  return id && by_id_.at(*id).special;
}

int64_t AddedTokens::size() const {
  return by_id_.empty() ? 0 : int64_t{by_id_.rbegin()->first} + 1;
}

bool AddedTokens::is_word(const Utf8Char& character) const {
  std::string text;
  append_utf8(character.code, text);
  return !word_.find_all(text).empty();
}

std::vector<Segment> AddedTokens::split_by(const Trie& trie, std::string_view text) const {
  std::vector<Segment> segments;
  size_t done = 0;  // everything before is in a segment
  for (size_t at = 0; at < text.size();) {
    const Trie::Match match = trie.longest(text, at);
    if (match.token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = match.end;
    at = end;
    if (match.token->single_word) {
      const bool after_word = begin > 0 && is_word(utf8_char_before(text, begin));
      const bool before_word = end < text.size() && is_word(utf8_char_at(text, end));
      if (after_word || before_word) continue;
    }
    if (match.token->lstrip) begin = std::max(skip_space_back(text, begin), done);
    if (match.token->rstrip) end = skip_space(text, end);
    if (done < begin) segments.push_back({done, begin, std::nullopt});
    // Nothing is left of a token of spaces that the one before it has taken.
    if (begin < end) segments.push_back({begin, end, match.token->id});
    done = end;
  }
  if (done < text.size()) segments.push_back({done, text.size(), std::nullopt});
  return segments;
}

}  // namespace halftone
