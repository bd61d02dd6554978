#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja_lexer.h"
#include "text/jinja_nodes.h"

namespace halftone::jinja {

// Tokens to the tree. What does not belong there is a Fault with its line.
class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}
  Tree parse();

 private:
  // Nested brackets, blocks and chains of operators.
  static constexpr int kMaxHeight = 500;
  class Deeper;

  // Tokens (jinja_parser.cpp).
  const Token& current() const { return tokens_[at_]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  bool at_operator(std::string_view op) const;
  bool at_name(std::string_view name) const;
  bool take_operator(std::string_view op);
  bool take_name(std::string_view name);
  void expect_operator(std::string_view op);
  std::string expect_name(const char* what);
  [[noreturn]] void unexpected(const std::string& expected) const;
  int name_of(const std::string& spelling);
  // A child makes its parent higher.
  void raise(Node& parent, int child_height) const;
  template <typename T>
  std::unique_ptr<T> adopt(Node& parent, std::unique_ptr<T> child) const {
    if (child != nullptr) raise(parent, child->height);
    return child;
  }

  // Statements (jinja_parse_statements.cpp). A body ends at one of the tags in `ends`, which is
  // current then.
  Body parse_body(Node* parent, const std::vector<std::string_view>& ends);
  Body parse_block(Node& parent, std::string_view tag, std::string_view end);
  std::unique_ptr<Statement> parse_statement();
  std::unique_ptr<Statement> parse_if();
  std::unique_ptr<Statement> parse_for();
  std::unique_ptr<Statement> parse_jump();
  std::unique_ptr<Statement> parse_set();
  std::unique_ptr<Statement> parse_with();
  std::unique_ptr<Statement> parse_generation();
  std::unique_ptr<Statement> parse_filter_block();
  std::unique_ptr<Statement> parse_macro();
  std::unique_ptr<Statement> parse_call_block();
  void parse_macro_rest(Macro& macro, std::string_view tag, std::string_view end);
  void parse_parameters(Macro& macro);
  Target parse_target(bool with_attributes, bool before_in);
  Target parse_one_target(bool with_attributes);
  void end_tag();

  // Expressions (jinja_parse_expressions.cpp).
  ExpressionPtr parse_tuple(bool with_condition, bool in_parentheses);
  ExpressionPtr parse_expression(bool with_condition = true);
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr arithmetic(int line, ExpressionPtr left, ExpressionPtr (Parser::*operand)());

  // Operands and what is behind them (jinja_parse_operands.cpp).
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_number();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr object);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  ExpressionPtr parse_filters(ExpressionPtr input);
  std::unique_ptr<FilterCall> parse_filter(ExpressionPtr input);
  ExpressionPtr parse_test(ExpressionPtr input);
  ExpressionPtr parse_call(ExpressionPtr function);
  void parse_arguments(Node& parent, CallArguments& arguments);
  std::string parse_dotted_name();

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;               // that a break could end
  std::vector<Macro*> macros_;  // whose bodies are being read
  std::vector<std::string> names_;
  std::unordered_map<std::string, int> numbers_;
};

// Counts a level for as long as it lives.
class Parser::Deeper {
 public:
  explicit Deeper(Parser& parser);
  ~Deeper() { --parser_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Parser& parser_;
};

}  // namespace halftone::jinja
