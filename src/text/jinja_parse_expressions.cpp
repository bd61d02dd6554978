#include "core/log.h"
#include "text/jinja_parser.h"

namespace halftone::jinja {

ExpressionPtr Parser::parse_tuple(bool with_condition, bool in_parentheses) {
  const int line = current().line;
  const auto at_end = [&] {
    return current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd ||
           at_operator(")");
  };
  auto tuple = std::make_unique<Sequence>(line);
  tuple->kind = List::Kind::kTuple;
  bool comma = false;
  while (!at_end()) {
    tuple->items.push_back(adopt(*tuple, parse_expression(with_condition)));
    if (!take_operator(",")) break;
    comma = true;
  }
  if (comma || (tuple->items.empty() && in_parentheses)) return tuple;
  if (tuple->items.empty()) unexpected("an expression");
  return std::move(tuple->items.front());
}

ExpressionPtr Parser::parse_expression(bool with_condition) {
  const Deeper deeper(*this);
  int line = current().line;
  ExpressionPtr value = parse_or();
  while (with_condition && take_name("if")) {
    auto node = std::make_unique<Conditional>(line);
    node->chosen = adopt(*node, std::move(value));
    node->condition = adopt(*node, parse_or());
    if (take_name("else")) node->otherwise = adopt(*node, parse_expression());
    value = std::move(node);
    line = current().line;
  }
  return value;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr first = parse_and();
  if (!at_name("or")) return first;
  auto node = std::make_unique<Logic>(first->line);
  node->is_or = true;
  node->operands.push_back(adopt(*node, std::move(first)));
  while (take_name("or")) node->operands.push_back(adopt(*node, parse_and()));
  return node;
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr first = parse_not();
  if (!at_name("and")) return first;
  auto node = std::make_unique<Logic>(first->line);
  node->operands.push_back(adopt(*node, std::move(first)));
  while (take_name("and")) node->operands.push_back(adopt(*node, parse_not()));
  return node;
}

ExpressionPtr Parser::parse_not() {
  if (!at_name("not")) return parse_comparison();
  const Deeper deeper(*this);
  auto node = std::make_unique<Unary>(next().line);
  node->op = '!';
  node->operand = adopt(*node, parse_not());
  return node;
}

ExpressionPtr Parser::parse_comparison() {
  ExpressionPtr first = parse_sum();
  auto node = std::make_unique<Comparison>(first->line);
  while (true) {
    std::string op;
    for (const char* known : {"==", "!=", "<", "<=", ">", ">="}) {
      if (at_operator(known)) op = known;
    }
    if (at_name("in")) op = "in";
    if (at_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      next();
      op = "not in";
    }
    if (op.empty()) break;
    next();
    node->rest.emplace_back(std::move(op), adopt(*node, parse_sum()));
  }
  if (node->rest.empty()) return first;
  node->first = adopt(*node, std::move(first));
  return node;
}

ExpressionPtr Parser::arithmetic(int line, ExpressionPtr left, ExpressionPtr (Parser::*operand)()) {
  auto node = std::make_unique<Arithmetic>(line);
  node->op = next().text;
  node->left = adopt(*node, std::move(left));
  node->right = adopt(*node, (this->*operand)());
  return node;
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr left = parse_concatenation();
  while (at_operator("+") || at_operator("-")) {
    left = arithmetic(current().line, std::move(left), &Parser::parse_concatenation);
  }
  return left;
}

ExpressionPtr Parser::parse_concatenation() {
  ExpressionPtr first = parse_product();
  if (!at_operator("~")) return first;
  auto node = std::make_unique<Concatenation>(first->line);
  node->parts.push_back(adopt(*node, std::move(first)));
  while (take_operator("~")) node->parts.push_back(adopt(*node, parse_product()));
  return node;
}

ExpressionPtr Parser::parse_product() {
  ExpressionPtr left = parse_power();
  while (at_operator("*") || at_operator("/") || at_operator("//") || at_operator("%")) {
    left = arithmetic(current().line, std::move(left), &Parser::parse_power);
  }
  return left;
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (at_operator("**")) {
    auto node = std::make_unique<Arithmetic>(next().line);
    node->op = "**";
    node->left = adopt(*node, std::move(left));
    node->right = adopt(*node, parse_unary(true));
    left = std::move(node);
  }
  return left;
}

ExpressionPtr Parser::parse_unary(bool with_filters) {
  ExpressionPtr value;
  if (at_operator("-") || at_operator("+")) {
    const Deeper deeper(*this);
    auto node = std::make_unique<Unary>(current().line);
    node->op = next().text[0];
    node->operand = adopt(*node, parse_unary(false));
    value = std::move(node);
  } else {
    value = parse_primary();
  }
  value = parse_postfix(std::move(value));
  return with_filters ? parse_filters(std::move(value)) : std::move(value);
}

}  // namespace halftone::jinja
