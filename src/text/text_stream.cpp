#include "text/text_stream.h"

#include <algorithm>

namespace halftone {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD: a character is not complete

// The longest end of the text that is the beginning of a stop string.
size_t possible_stop(const std::string& text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t length = std::min(text.size(), stop.size() - 1); length > longest; --length) {
      if (text.compare(text.size() - length, length, stop, 0, length) == 0) longest = length;
    }
  }
  return longest;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops)
    : tokenizer_(tokenizer), stops_(std::move(stops)) {
  std::erase(stops_, std::string());
}

std::string TextStream::add(TokenId id) {
  ids_.push_back(id);
  // A token's text depends on those in front: the last known ones are decoded with it.
  const auto decoded = [&](size_t end) {
    return tokenizer_.decode({ids_.begin() + static_cast<std::ptrdiff_t>(prefix_),
                              ids_.begin() + static_cast<std::ptrdiff_t>(end)});
  };
  const std::string known = decoded(read_);
  const std::string text = decoded(ids_.size());
  if (text.size() <= known.size() || text.ends_with(kReplacement)) return {};
  held_ += text.substr(known.size());
  prefix_ = read_;
  read_ = ids_.size();
  return released(false);
}

std::string TextStream::finish() {
  const std::vector<TokenId> rest(ids_.begin() + static_cast<std::ptrdiff_t>(prefix_), ids_.end());
  const std::vector<TokenId> known(ids_.begin() + static_cast<std::ptrdiff_t>(prefix_),
                                   ids_.begin() + static_cast<std::ptrdiff_t>(read_));
  const std::string text = tokenizer_.decode(rest), before = tokenizer_.decode(known);
  if (!stopped_ && text.size() > before.size()) held_ += text.substr(before.size());
  prefix_ = read_ = ids_.size();
  return released(true);
}

std::string TextStream::released(bool last) {
  if (stopped_) return {};
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  stopped_ = end != std::string::npos;
  if (!stopped_) end = last ? held_.size() : held_.size() - possible_stop(held_, stops_);
  std::string text = held_.substr(0, end);
  held_ = stopped_ ? std::string() : held_.substr(end);
  return text;
}

}  // namespace halftone
