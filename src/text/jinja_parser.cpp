#include "text/jinja_parser.h"

#include <algorithm>

#include "core/log.h"

namespace halftone::jinja {

Parser::Deeper::Deeper(Parser& parser) : parser_(parser) {
  constexpr int kMaxDepth = 100;
  if (parser.depth_ >= kMaxDepth) {
    throw Fault(concat("nested deeper than ", kMaxDepth, " levels"), parser.current().line);
  }
  ++parser.depth_;
}

Tree Parser::parse() {
  Tree tree;
  tree.body = parse_body(nullptr, {});
  tree.names = std::move(names_);
  return tree;
}

bool Parser::at_operator(std::string_view op) const {
  return current().kind == TokenKind::kOperator && current().text == op;
}

bool Parser::at_name(std::string_view name) const {
  return current().kind == TokenKind::kName && current().text == name;
}

bool Parser::take_operator(std::string_view op) {
  if (!at_operator(op)) return false;
  next();
  return true;
}

bool Parser::take_name(std::string_view name) {
  if (!at_name(name)) return false;
  next();
  return true;
}

void Parser::expect_operator(std::string_view op) {
  if (!take_operator(op)) unexpected(concat("'", op, "'"));
}

std::string Parser::expect_name(const char* what) {
  if (current().kind != TokenKind::kName) unexpected(what);
  return next().text;
}

void Parser::unexpected(const std::string& expected) const {
  throw Fault(concat("expected ", expected, ", found ", describe(current())), current().line);
}

int Parser::name_of(const std::string& spelling) {
  const auto [found, added] = numbers_.emplace(spelling, static_cast<int>(names_.size()));
  if (added) names_.push_back(spelling);
  return found->second;
}

void Parser::raise(Node& parent, int child_height) const {
  parent.height = std::max(parent.height, child_height + 1);
  if (parent.height <= kMaxHeight) return;
  throw Fault(concat("an expression or block of more than ", kMaxHeight, " nested parts"),
              parent.line);
}

}  // namespace halftone::jinja
