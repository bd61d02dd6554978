#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace halftone::jinja {

enum class TokenKind {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kText,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;  // of data and texts with their escapes resolved
  int line;
};

// Comments, raw blocks and white space around tags are resolved (trim_blocks, lstrip_blocks). What
// cannot be read is a Fault with its line. The last token is kEnd.
std::vector<Token> tokenize(std::string_view source);

// What an error shows of a token.
std::string describe(const Token& token);

}  // namespace halftone::jinja
