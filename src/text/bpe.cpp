#include "text/bpe.h"

#include <queue>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"
#include "text/utf8.h"

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

}  // namespace

Bpe::Bpe(const Json& model, const std::string& source)
    : vocabulary_(object_member(model, "vocab", source), source), source_(source) {
  if (json_member_or<double>(model, "dropout", 0.0, source) != 0.0) {
    refuse_part(source, "dropout", "dropout null");
  }
  ignore_merges_ = json_member_or<bool>(model, "ignore_merges", false, source);
  fuse_unknown_ = json_member_or<bool>(model, "fuse_unk", false, source);
  unknown_ = json_member_or<std::string>(model, "unk_token", "", source);
  continuing_prefix_ = json_member_or<std::string>(model, "continuing_subword_prefix", "", source);
  end_suffix_ = json_member_or<std::string>(model, "end_of_word_suffix", "", source);
  if (json_member_or<bool>(model, "byte_fallback", false, source)) {
    byte_tokens_.emplace(vocabulary_);
  }
  read_merges(array_member(model, "merges", source), source + ".merges");
}

void Bpe::read_merges(const Json& merges, const std::string& source) {
  merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (const Json& entry : merges) {
    // The head line of merges.txt, which converters take along.
    if (entry.is_string() && entry.get_ref<const std::string&>().starts_with("#version")) continue;
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
    if (!pair->second.starts_with(continuing_prefix_)) {
      throw InputError(concat(source, "[", rank, "]: '", pair->second,
                              "' does not begin with the continuing_subword_prefix '",
                              continuing_prefix_, "'"));
    }
    const std::string whole = pair->first + pair->second.substr(continuing_prefix_.size());
    // Of two equal merges the later counts.
    merges_.insert_or_assign(merge_key(left, right), Merge{rank, id_of(whole)});
    ++rank;
  }
}

const Bpe::Merge* Bpe::find_merge(TokenId left, TokenId right) const {
  const auto found = merges_.find(merge_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

TokenId Bpe::unknown_id() const {
  const auto id = vocabulary_.find(unknown_);
  if (id) return *id;
  throw InputError(concat(source_, ": unk_token '", unknown_,
                          "' is not in the vocabulary, and the text needs it"));
}

// The tokens of single characters. One without is spelled in bytes where all of them have tokens;
// else it becomes the unknown token, or nothing where there is none.
std::vector<TokenId> Bpe::character_ids(std::string_view piece) const {
  std::vector<TokenId> ids;
  ids.reserve(piece.size());
  // As in the reference, bytes pass an unknown token that waits for its neighbours.
  bool unknown_waits = false;
  std::string written;  // as the vocabulary has it
  const auto flush = [&] {
    if (unknown_waits) ids.push_back(unknown_id());
    unknown_waits = false;
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t end = at + utf8_char_at(piece, at).bytes;
    written.assign(at == 0 ? "" : continuing_prefix_);
    written += piece.substr(at, end - at);
    if (end == piece.size()) written += end_suffix_;
    if (const auto id = vocabulary_.find(written)) {
      flush();
      ids.push_back(*id);
    } else if (!byte_tokens_ || !byte_tokens_->append(written, ids)) {
      if (!fuse_unknown_) flush();
      unknown_waits = !unknown_.empty();
    }
    at = end;
  }
  flush();
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

void Bpe::append_ids(std::string_view piece, std::vector<TokenId>& ids) const {
  if (ignore_merges_) {
    if (const auto whole = vocabulary_.find(piece)) {
      ids.push_back(*whole);
      return;
    }
  }
  std::vector<TokenId> symbols = character_ids(piece);
  merge(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

}  // namespace halftone
