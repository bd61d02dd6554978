#include "text/unigram.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"
#include "text/utf8.h"

namespace halftone {
namespace {

constexpr double kUnknownPenalty = 10.0;

// The score as the reference's JSON parser reads it: the digits as an integer, then one division by
// a power of ten. For 17 digits that can differ in the last bit from the nearest number, and equal
// ways to cut a run of one character are decided by such bits.
double score_of(double value) {
  std::array<char, 64> buffer{};
  const auto written = std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::abs(value),
                                     std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<size_t>(written.ptr - buffer.data()));
  const size_t e = text.find('e');
  uint64_t digits = 0;
  int exponent = 0;
  const char* power = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(power, text.data() + text.size(), exponent);
  for (size_t i = 0; i < e; ++i) {
    if (text[i] == '.') continue;
    digits = digits * 10 + static_cast<uint64_t>(text[i] - '0');
    if (i > 0) --exponent;
  }
  const auto number = static_cast<double>(digits);
  const double scale = std::pow(10.0, std::abs(exponent));
  return std::copysign(exponent < 0 ? number / scale : number * scale, value);
}

const Json& scored_token(const Json& entry, const std::string& place) {
  if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number()) {
    return entry;
  }
  throw InputError(concat(place, ": expected [token, score], found ", entry.dump().substr(0, 80)));
}

std::vector<std::string> tokens_of(const Json& model, const std::string& source) {
  const Json& vocab = array_member(model, "vocab", source);
  if (std::ssize(vocab) > kMaxTokenId) {
    throw InputError(concat(source, ".vocab: more than ", kMaxTokenId, " tokens"));
  }
  std::vector<std::string> tokens;
  tokens.reserve(vocab.size());
  for (const Json& entry : vocab) {
    const std::string place = concat(source, ".vocab[", tokens.size(), "]");
    tokens.push_back(scored_token(entry, place)[0].get<std::string>());
  }
  return tokens;
}

}  // namespace

Unigram::Unigram(const Json& model, const std::string& source)
    : vocabulary_(tokens_of(model, source)), source_(source) {
  double lowest = INFINITY;
  for (const Json& entry : model["vocab"]) {
    scores_.push_back(score_of(entry[1].get<double>()));
    lowest = std::min(lowest, scores_.back());
  }
  unknown_score_ = lowest - kUnknownPenalty;
  if (model.contains("unk_id") && !model["unk_id"].is_null()) {
    unknown_ = token_id(model["unk_id"], source + ", 'unk_id'");
    if (*unknown_ >= vocabulary_.size()) {
      throw InputError(concat(source, ": 'unk_id' is ", *unknown_, ", but there are ",
                              vocabulary_.size(), " tokens"));
    }
  }
  if (json_member_or<bool>(model, "byte_fallback", false, source)) {
    byte_tokens_.emplace(vocabulary_);
  }
  for (TokenId id = 0; id < vocabulary_.size(); ++id) {
    // Of equal tokens the one that is found by its text.
    if (vocabulary_.find(*vocabulary_.token(id)) == id) sorted_.push_back(id);
  }
  std::sort(sorted_.begin(), sorted_.end(),
            [this](TokenId a, TokenId b) { return *vocabulary_.token(a) < *vocabulary_.token(b); });
}

TokenId Unigram::unknown_id() const {
  if (unknown_) return *unknown_;
  throw InputError(concat(source_, ": the text needs an unknown token, and 'unk_id' is null"));
}

// Viterbi, from the left: by the end of a prefix.
std::vector<Unigram::Step> Unigram::best_steps(std::string_view piece) const {
  std::vector<Step> steps(piece.size() + 1);
  const auto offer = [&](size_t begin, size_t end, double score, bool unknown) {
    const double sum = score + steps[begin].score;
    Step& step = steps[end];
    if (step.begin != SIZE_MAX && sum <= step.score) return;
    if (unknown) unknown_id();
    step = {begin, sum, unknown};
  };
  for (size_t begin = 0; begin < piece.size();) {
    const size_t character = utf8_char_at(piece, begin).bytes;
    bool has_character = false;
    // The tokens that begin as the piece does here, narrowed byte by byte.
    auto low = sorted_.begin();
    auto high = sorted_.end();
    for (size_t end = begin; end < piece.size() && low != high; ++end) {
      const size_t depth = end - begin;
      const auto byte_of = [&](TokenId id) {
        const std::string& token = *vocabulary_.token(id);
        return depth < token.size() ? static_cast<unsigned char>(token[depth]) : -1;
      };
      const int byte = static_cast<unsigned char>(piece[end]);
      low = std::partition_point(low, high, [&](TokenId id) { return byte_of(id) < byte; });
      high = std::partition_point(low, high, [&](TokenId id) { return byte_of(id) == byte; });
      // The shortest comes first.
      if (low == high || vocabulary_.token(*low)->size() != depth + 1) continue;
      offer(begin, end + 1, scores_[static_cast<size_t>(*low)], *low == unknown_);
      has_character = has_character || depth + 1 == character;
    }
    if (!has_character) offer(begin, begin + character, unknown_score_, true);
    begin += character;
  }
  return steps;
}

void Unigram::append_token(std::string_view token, std::vector<TokenId>& ids) const {
  if (const auto id = vocabulary_.find(token)) {
    ids.push_back(*id);
  } else if (!byte_tokens_ || !byte_tokens_->append(token, ids)) {
    ids.push_back(unknown_id());
  }
}

void Unigram::append_ids(std::string_view piece, std::vector<TokenId>& ids) const {
  const std::vector<Step> steps = best_steps(piece);
  // Adjacent unknown characters are one token.
  std::vector<std::string_view> tokens;
  bool after_unknown = false;
  for (size_t end = piece.size(); end > 0;) {
    const Step& step = steps[end];
    if (step.unknown && after_unknown) {
      tokens.back() = piece.substr(step.begin, end - step.begin + tokens.back().size());
    } else {
      tokens.push_back(piece.substr(step.begin, end - step.begin));
    }
    after_unknown = step.unknown;
    end = step.begin;
  }
  for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) append_token(*token, ids);
}

}  // namespace halftone
