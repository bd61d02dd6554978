#include "text/vocabulary.h"

#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {

Vocabulary::Vocabulary(const Json& vocab, const std::string& source) {
  std::vector<TokenId> ids;
  ids.reserve(vocab.size());
  tokens_.reserve(vocab.size());
  for (const auto& [token, value] : vocab.items()) {
    const auto id = try_token_id(value);
    if (!id) throw bad_token_id(value, concat(source, ".vocab, token '", token, "'"));
    const auto index = static_cast<size_t>(*id);
    if (index >= slots_.size()) slots_.resize(index + 1, -1);
    if (slots_[index] >= 0) {
      throw InputError(concat(source, ".vocab: '", tokens_[static_cast<size_t>(slots_[index])],
                              "' and '", token, "' have the same id ", *id));
    }
    slots_[index] = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(token);
    ids.push_back(*id);
  }
  ids_.reserve(tokens_.size());
  for (size_t i = 0; i < tokens_.size(); ++i) ids_.emplace(tokens_[i], ids[i]);
}

Vocabulary::Vocabulary(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
  slots_.resize(tokens_.size());
  std::iota(slots_.begin(), slots_.end(), 0);
  ids_.reserve(tokens_.size());
  for (const int32_t slot : slots_) ids_.insert_or_assign(tokens_[static_cast<size_t>(slot)], slot);
}

std::optional<TokenId> Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::token(TokenId id) const {
  if (id < 0 || id >= size()) return nullptr;
  const int32_t slot = slots_[static_cast<size_t>(id)];
  return slot < 0 ? nullptr : &tokens_[static_cast<size_t>(slot)];
}

}  // namespace halftone
