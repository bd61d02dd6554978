#include "text/metaspace.h"

#include <optional>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "text/json_shape.h"
#include "text/splitter.h"
#include "text/utf8.h"

namespace halftone {
namespace {

enum class PrependScheme { kAlways, kFirst, kNever };

struct MetaspaceOptions {
  std::string replacement;
  PrependScheme scheme = PrependScheme::kAlways;
  bool split = true;
};

PrependScheme scheme_of(const std::string& name, const std::string& source) {
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  refuse_part(source, concat("the prepend_scheme '", name, "'"), "always, first, never");
}

MetaspaceOptions read_options(const Json& part, const std::string& source) {
  MetaspaceOptions options;
  options.replacement = json_member<std::string>(part, "replacement", source);
  if (options.replacement.empty() ||
      utf8_char_at(options.replacement, 0).bytes != options.replacement.size()) {
    throw InputError(
        concat(source, ": 'replacement' must be one character, found '", options.replacement, "'"));
  }
  // Files from before prepend_scheme have add_prefix_space alone.
  const bool prefixed = json_member_or<bool>(part, "add_prefix_space", true, source);
  options.scheme = scheme_of(
      json_member_or<std::string>(part, "prepend_scheme", prefixed ? "always" : "never", source),
      source);
  if (!prefixed && options.scheme != PrependScheme::kNever) {
    throw InputError(concat(source, ": 'add_prefix_space' and 'prepend_scheme' contradict"));
  }
  options.split = json_member_or<bool>(part, "split", true, source);
  return options;
}

class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(MetaspaceOptions options) : options_(std::move(options)) {}

  void apply(Pieces& pieces) const override {
    std::vector<Piece> result;
    for (const Piece& piece : pieces.list) {
      const Piece marked = with_marks(piece, pieces);
      if (options_.split) {
        append_words(marked, result);
      } else {
        result.push_back(marked);
      }
    }
    pieces.list = std::move(result);
  }

 private:
  Piece with_marks(const Piece& piece, Pieces& pieces) const {
    std::string text;
    size_t at_start = piece.at_start;
    text.reserve(piece.text.size() + options_.replacement.size());
    const bool marked = piece.text.starts_with(' ') || piece.text.starts_with(options_.replacement);
    const bool prepends = options_.scheme == PrependScheme::kAlways ||
                          (options_.scheme == PrependScheme::kFirst && piece.at_start > 0);
    if (!marked && prepends) {
      text = options_.replacement;
      if (at_start > 0) at_start += options_.replacement.size();
    }
    for (const char c : piece.text) {
      if (c == ' ') {
        text += options_.replacement;
      } else {
        text += c;
      }
    }
    return {pieces.keep(std::move(text)), at_start};
  }

  // Every word keeps the mark before it.
  void append_words(const Piece& piece, std::vector<Piece>& result) const {
    std::vector<Span> marks;
    const std::string& mark = options_.replacement;
    for (size_t at = piece.text.find(mark); at != std::string_view::npos;
         at = piece.text.find(mark, at + mark.size())) {
      marks.push_back({at, at + mark.size()});
    }
    for (const Span span :
         split_spans(marks, piece.text.size(), SplitBehavior::kMergedWithNext, false)) {
      result.push_back(piece.cut(span.begin, span.end));
    }
  }

  MetaspaceOptions options_;
};

class MetaspaceDecoder : public Decoder {
 public:
  explicit MetaspaceDecoder(MetaspaceOptions options) : options_(std::move(options)) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const bool dropped = i == 0 && options_.scheme != PrependScheme::kNever;
      std::string text;
      size_t done = 0;
      const std::string& token = tokens[i];
      for (size_t at = token.find(options_.replacement); at != std::string::npos;
           at = token.find(options_.replacement, done)) {
        text.append(token, done, at - done);
        if (!dropped) text += ' ';
        done = at + options_.replacement.size();
      }
      text.append(token, done);
      tokens[i] = std::move(text);
    }
  }

 private:
  MetaspaceOptions options_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_metaspace(const Json& part, const std::string& source) {
  return std::make_unique<Metaspace>(read_options(part, source));
}

std::unique_ptr<Decoder> make_metaspace_decoder(const Json& part, const std::string& source) {
  return std::make_unique<MetaspaceDecoder>(read_options(part, source));
}

}  // namespace halftone
