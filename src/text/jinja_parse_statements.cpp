#include <algorithm>
#include <array>

#include "core/log.h"
#include "text/jinja_parser.h"

namespace halftone::jinja {

void Parser::end_tag() {
  if (current().kind != TokenKind::kBlockEnd) unexpected("'%}'");
  next();
}

Body Parser::parse_body(Node* parent, const std::vector<std::string_view>& ends) {
  const Deeper deeper(*this);
  Body body;
  const int begun = parent != nullptr ? parent->line : 1;
  const auto add = [&](std::unique_ptr<Statement> statement) {
    if (parent != nullptr) raise(*parent, statement->height);
    body.push_back(std::move(statement));
  };
  while (current().kind != TokenKind::kEnd) {
    const Token& token = next();
    if (token.kind == TokenKind::kData) {
      auto data = std::make_unique<Data>(token.line);
      data->text = token.text;
      add(std::move(data));
    } else if (token.kind == TokenKind::kVariableBegin) {
      auto print = std::make_unique<Print>(token.line);
      print->value = adopt(*print, parse_tuple(true, false));
      if (current().kind != TokenKind::kVariableEnd) unexpected("'}}'");
      next();
      add(std::move(print));
    } else {
      const auto ends_here = [&](std::string_view end) { return at_name(end); };
      if (std::ranges::any_of(ends, ends_here)) return body;
      add(parse_statement());
      end_tag();
    }
  }
  if (ends.empty()) return body;
  throw Fault(concat("a block without its '", ends.back(), "'"), begun);
}

Body Parser::parse_block(Node& parent, std::string_view tag, std::string_view end) {
  take_operator(":");
  if (current().kind != TokenKind::kBlockEnd) unexpected(concat("'%}' behind '", tag, "'"));
  next();
  Body body = parse_body(&parent, {end});
  next();
  return body;
}

std::unique_ptr<Statement> Parser::parse_statement() {
  struct Kind {
    std::string_view tag;
    std::unique_ptr<Statement> (Parser::*parse)();
  };
  static constexpr std::array<Kind, 10> kKinds = {{{"if", &Parser::parse_if},
                                                   {"for", &Parser::parse_for},
                                                   {"break", &Parser::parse_jump},
                                                   {"continue", &Parser::parse_jump},
                                                   {"set", &Parser::parse_set},
                                                   {"with", &Parser::parse_with},
                                                   {"generation", &Parser::parse_generation},
                                                   {"filter", &Parser::parse_filter_block},
                                                   {"macro", &Parser::parse_macro},
                                                   {"call", &Parser::parse_call_block}}};
  for (const Kind& kind : kKinds) {
    if (at_name(kind.tag)) return (this->*kind.parse)();
  }
  std::string known;
  for (const Kind& kind : kKinds) known += concat(known.empty() ? "" : ", ", kind.tag);
  throw Fault(concat("unexpected tag ", describe(current()), "; supported: ", known),
              current().line);
}

std::unique_ptr<Statement> Parser::parse_if() {
  auto node = std::make_unique<If>(next().line);
  while (true) {
    ExpressionPtr condition = adopt(*node, parse_tuple(false, false));
    take_operator(":");
    end_tag();
    Body body = parse_body(node.get(), {"elif", "else", "endif"});
    node->branches.emplace_back(std::move(condition), std::move(body));
    if (take_name("elif")) continue;
    if (at_name("else")) {
      next();
      node->otherwise = parse_block(*node, "else", "endif");
    } else {
      next();
    }
    return node;
  }
}

std::unique_ptr<Statement> Parser::parse_for() {
  auto node = std::make_unique<For>(next().line);
  node->loop_name = name_of("loop");
  node->target = parse_target(false, true);
  if (!take_name("in")) unexpected("'in'");
  node->iterable = adopt(*node, parse_tuple(false, false));
  if (take_name("if")) node->condition = adopt(*node, parse_expression());
  node->recursive = take_name("recursive");
  take_operator(":");
  end_tag();
  ++loops_;
  node->body = parse_body(node.get(), {"else", "endfor"});
  --loops_;
  if (take_name("else")) {
    node->otherwise = parse_block(*node, "else", "endfor");
  } else {
    next();
  }
  return node;
}

std::unique_ptr<Statement> Parser::parse_jump() {
  const Token& token = next();
  if (loops_ == 0) throw Fault(concat("'", token.text, "' outside of a for"), token.line);
  return std::make_unique<Jump>(token.line, token.text == "break" ? Flow::kBreak : Flow::kContinue);
}

std::unique_ptr<Statement> Parser::parse_set() {
  const int line = next().line;
  Target target = parse_target(true, false);
  if (take_operator("=")) {
    auto node = std::make_unique<Set>(line);
    node->target = std::move(target);
    node->value = adopt(*node, parse_tuple(true, false));
    return node;
  }
  auto node = std::make_unique<SetBlock>(line);
  node->target = std::move(target);
  while (take_operator("|")) node->filter = adopt(*node, parse_filter(std::move(node->filter)));
  const int loops = std::exchange(loops_, 0);
  node->body = parse_block(*node, "set", "endset");
  loops_ = loops;
  return node;
}

std::unique_ptr<Statement> Parser::parse_with() {
  auto node = std::make_unique<Block>(next().line);
  while (current().kind != TokenKind::kBlockEnd) {
    if (!node->names.empty()) expect_operator(",");
    Target target = parse_target(false, false);
    expect_operator("=");
    node->names.emplace_back(std::move(target), adopt(*node, parse_expression()));
  }
  node->body = parse_block(*node, "with", "endwith");
  return node;
}

std::unique_ptr<Statement> Parser::parse_generation() {
  auto node = std::make_unique<Block>(next().line);
  const int loops = std::exchange(loops_, 0);
  node->body = parse_block(*node, "generation", "endgeneration");
  loops_ = loops;
  return node;
}

std::unique_ptr<Statement> Parser::parse_filter_block() {
  auto node = std::make_unique<FilterBlock>(next().line);
  do {
    node->filter = adopt(*node, parse_filter(std::move(node->filter)));
  } while (take_operator("|"));
  const int loops = std::exchange(loops_, 0);
  node->body = parse_block(*node, "filter", "endfilter");
  loops_ = loops;
  return node;
}

std::unique_ptr<Statement> Parser::parse_macro() {
  auto macro = std::make_unique<Macro>(next().line);
  macro->spelling = expect_name("the macro's name");
  macro->name = name_of(macro->spelling);
  parse_parameters(*macro);
  parse_macro_rest(*macro, "macro", "endmacro");
  return macro;
}

std::unique_ptr<Statement> Parser::parse_call_block() {
  auto node = std::make_unique<CallBlock>(next().line);
  node->macro = std::make_unique<Macro>(node->line);
  node->macro->spelling = "caller";
  if (at_operator("(")) parse_parameters(*node->macro);
  ExpressionPtr call = adopt(*node, parse_expression());
  if (dynamic_cast<Call*>(call.get()) == nullptr) throw Fault("expected a call", node->line);
  node->call.reset(static_cast<Call*>(call.release()));
  parse_macro_rest(*node->macro, "call", "endcall");
  raise(*node, node->macro->height);
  return node;
}

void Parser::parse_parameters(Macro& macro) {
  expect_operator("(");
  while (!at_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    std::string spelling = expect_name("a parameter");
    ExpressionPtr fallback;
    if (take_operator("=")) {
      fallback = adopt(macro, parse_expression());
    } else if (!macro.parameters.empty() && macro.parameters.back().fallback != nullptr) {
      throw Fault("a parameter without a default behind one with it", current().line);
    }
    const int name = name_of(spelling);
    macro.parameters.push_back({name, std::move(spelling), std::move(fallback)});
  }
  next();
}

void Parser::parse_macro_rest(Macro& macro, std::string_view tag, std::string_view end) {
  const int loops = std::exchange(loops_, 0);
  macros_.push_back(&macro);
  macro.body = parse_block(macro, tag, end);
  macros_.pop_back();
  loops_ = loops;
}

Target Parser::parse_one_target(bool with_attributes) {
  Target target;
  if (take_operator("(")) {
    target = parse_target(with_attributes, false);
    expect_operator(")");
    return target;
  }
  target.spelling = expect_name("a name");
  static constexpr std::array<std::string_view, 6> kConstants = {"true",  "True", "false",
                                                                 "False", "none", "None"};
  if (std::ranges::find(kConstants, target.spelling) != kConstants.end()) {
    throw Fault(concat("cannot assign to '", target.spelling, "'"), current().line);
  }
  target.name = name_of(target.spelling);
  if (with_attributes && take_operator(".")) target.attribute = expect_name("an attribute");
  return target;
}

Target Parser::parse_target(bool with_attributes, bool before_in) {
  const Deeper deeper(*this);
  Target first = parse_one_target(with_attributes);
  if (!at_operator(",")) return first;
  Target target;
  target.parts.push_back(std::move(first));
  while (take_operator(",")) {
    if (at_operator("=") || at_operator(")") || (before_in && at_name("in"))) break;
    target.parts.push_back(parse_one_target(with_attributes));
  }
  return target;
}

}  // namespace halftone::jinja
