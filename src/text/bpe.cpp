#include "text/bpe.h"

#include <queue>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/byte_alphabet.h"
#include "text/json_shape.h"

namespace halftone {
namespace {

constexpr size_t kNone = SIZE_MAX;

// One symbol of the word that is being merged, in a doubly linked list.
struct Symbol {
  TokenId id = 0;
  size_t previous = kNone;
  size_t next = kNone;
  bool removed = false;
};

// A possible merge of the symbol at `at` with the one behind it. Lower ranks first, then from the
// left; entries whose symbols have changed since are recognized when they come out.
struct Candidate {
  uint32_t rank = 0;
  size_t at = 0;
  TokenId result = 0;

  bool operator<(const Candidate& other) const {  // the queue's top is the greatest
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

uint64_t merge_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

void refuse_text(const Json& model, const char* key, const std::string& source) {
  const auto value = json_member_or<std::string>(model, key, "", source);
  if (!value.empty()) refuse_part(source, concat(key, " '", value, "'"), "null or \"\"");
}

// "a b" or ["a", "b"]; nothing where it is neither.
std::optional<std::pair<std::string, std::string>> merge_pair(const Json& merge) {
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) return {};
    return std::pair(text.substr(0, space), text.substr(space + 1));
  }
  if (!merge.is_array() || merge.size() != 2) return {};
  if (!merge[0].is_string() || !merge[1].is_string()) return {};
  return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
}

// Other models have a vocabulary of another shape: they are named before it is read.
const Json& vocab_of_bpe(const Json& model, const std::string& source) {
  const std::string place = source + ", model";
  expect_object(model, place);
  const auto type = json_member_or<std::string>(model, "type", "BPE", place);
  if (type != "BPE") refuse_part(place, concat("type '", type, "'"), "BPE with ByteLevel");
  return object_member(model, "vocab", place);
}

}  // namespace

Bpe::Bpe(const Json& model, const std::string& source)
    : vocabulary_(vocab_of_bpe(model, source), source) {
  const std::string place = source + ", model";
  if (json_member_or<bool>(model, "byte_fallback", false, place)) {
    refuse_part(place, "BPE with byte_fallback", "BPE with ByteLevel and byte_fallback false");
  }
  if (json_member_or<double>(model, "dropout", 0.0, place) != 0.0) {
    refuse_part(place, "BPE with dropout", "dropout null");
  }
  refuse_text(model, "continuing_subword_prefix", place);
  refuse_text(model, "end_of_word_suffix", place);
  ignore_merges_ = json_member_or<bool>(model, "ignore_merges", false, place);
  fuse_unknown_ = json_member_or<bool>(model, "fuse_unk", false, place);
  const auto unknown = json_member_or<std::string>(model, "unk_token", "", place);
  if (!unknown.empty()) {
    unknown_ = vocabulary_.find(unknown);
    if (!unknown_) {
      throw InputError(concat(place, ": unk_token '", unknown, "' is not in the vocabulary"));
    }
  }
  for (size_t byte = 0; byte < bytes_.size(); ++byte) {
    bytes_[byte] =
        vocabulary_.find(ByteAlphabet::instance().character(static_cast<unsigned char>(byte)));
  }
  read_merges(array_member(model, "merges", place), place + ".merges");
}

void Bpe::read_merges(const Json& merges, const std::string& source) {
  merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (const Json& entry : merges) {
    const auto pair = merge_pair(entry);
    if (!pair) {
      throw InputError(concat(source, "[", rank, "]: expected \"a b\" or [\"a\", \"b\"], found ",
                              entry.dump().substr(0, 80)));
    }
    const auto id_of = [&](const std::string& token) {
      const auto found = vocabulary_.find(token);
      if (found) return *found;
      throw InputError(concat(source, "[", rank, "]: '", token, "' is not in the vocabulary"));
    };
    const TokenId left = id_of(pair->first);
    const TokenId right = id_of(pair->second);
    // Of two equal merges the later counts.
    merges_.insert_or_assign(merge_key(left, right),
                             Merge{rank, id_of(pair->first + pair->second)});
    ++rank;
  }
}

const Bpe::Merge* Bpe::find_merge(TokenId left, TokenId right) const {
  const auto found = merges_.find(merge_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// A byte without a token becomes the unknown token, or nothing where there is none.
std::vector<TokenId> Bpe::byte_ids(std::string_view word) const {
  std::vector<TokenId> ids;
  ids.reserve(word.size());
  bool after_unknown = false;
  for (const char byte : word) {
    const auto& id = bytes_[static_cast<unsigned char>(byte)];
    if (id) {
      ids.push_back(*id);
      after_unknown = false;
    } else if (unknown_) {
      if (!after_unknown || !fuse_unknown_) ids.push_back(*unknown_);
      after_unknown = true;
    }
  }
  return ids;
}

void Bpe::merge(std::vector<TokenId>& ids) const {
  std::vector<Symbol> symbols(ids.size());
  std::priority_queue<Candidate> queue;
  const auto consider = [&](size_t at) {
    const size_t next = symbols[at].next;
    if (next == kNone) return;
    if (const Merge* merge = find_merge(symbols[at].id, symbols[next].id)) {
      queue.push({merge->rank, at, merge->result});
    }
  };
  for (size_t i = 0; i < ids.size(); ++i) {
    symbols[i] = {ids[i], i == 0 ? kNone : i - 1, i + 1 == ids.size() ? kNone : i + 1, false};
  }
  for (size_t i = 0; i < ids.size(); ++i) consider(i);

  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.at];
    if (left.removed || left.next == kNone) continue;
    Symbol& right = symbols[left.next];
    // The entry may be older than its symbols. Equal results are taken whatever the pair is now, as
    // the reference does.
    const Merge* merge = find_merge(left.id, right.id);
    if (merge == nullptr || merge->result != top.result) continue;
    left.id = top.result;
    left.next = right.next;
    right.removed = true;
    if (left.next != kNone) symbols[left.next].previous = top.at;
    if (left.previous != kNone) consider(left.previous);
    consider(top.at);
  }
  ids.clear();
  for (const Symbol& symbol : symbols) {
    if (!symbol.removed) ids.push_back(symbol.id);
  }
}

void Bpe::append_ids(std::string_view word, std::vector<TokenId>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    std::string text;
    ByteAlphabet::instance().append_encoded(word, text);
    if (const auto whole = vocabulary_.find(text)) {
      ids.push_back(*whole);
      return;
    }
  }
  std::vector<TokenId> symbols = byte_ids(word);
  merge(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

}  // namespace halftone
