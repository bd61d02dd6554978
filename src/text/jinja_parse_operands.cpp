#include <charconv>

#include "core/log.h"
#include "text/jinja_parser.h"

namespace halftone::jinja {

ExpressionPtr Parser::parse_primary() {
  switch (current().kind) {
    case TokenKind::kName:
      return parse_name();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return parse_number();
    case TokenKind::kText: {
      const int line = current().line;
      std::string text;
      while (current().kind == TokenKind::kText) text += next().text;
      return std::make_unique<Literal>(line, Value(std::move(text)));
    }
    default:
      break;
  }
  if (at_operator("[")) return parse_list();
  if (at_operator("{")) return parse_dict();
  if (!take_operator("(")) unexpected("an expression");
  ExpressionPtr value = parse_tuple(true, true);
  expect_operator(")");
  return value;
}

ExpressionPtr Parser::parse_name() {
  const Token& token = next();
  const std::string& text = token.text;
  if (text == "true" || text == "True") return std::make_unique<Literal>(token.line, Value(true));
  if (text == "false" || text == "False")
    return std::make_unique<Literal>(token.line, Value(false));
  if (text == "none" || text == "None") return std::make_unique<Literal>(token.line, Value());
  auto name = std::make_unique<Name>(token.line);
  name->spelling = text;
  name->name = name_of(text);
  for (Macro* macro : macros_) {
    if (text == "varargs") macro->varargs = name->name;
    if (text == "kwargs") macro->kwargs = name->name;
    if (text == "caller") macro->caller = name->name;
  }
  return name;
}

ExpressionPtr Parser::parse_number() {
  const Token& token = next();
  const std::string& text = token.text;
  const char* const end = text.data() + text.size();
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    std::from_chars(text.data(), end, value);
    return std::make_unique<Literal>(token.line, Value(value));
  }
  const bool prefixed = text.size() > 2 && text[0] == '0' && text[1] > '9';
  const char kind = prefixed ? static_cast<char>(text[1] | 0x20) : '\0';
  const int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
  int64_t value = 0;
  const auto result = std::from_chars(text.data() + (prefixed ? 2 : 0), end, value, base);
  const bool leading_zero = !prefixed && text[0] == '0' && value != 0;
  if (result.ec != std::errc() || result.ptr != end || leading_zero) {
    throw Fault(concat("expected an integer of 64 bits, found ", describe(token)), token.line);
  }
  return std::make_unique<Literal>(token.line, Value(value));
}

ExpressionPtr Parser::parse_list() {
  auto list = std::make_unique<Sequence>(next().line);
  while (!at_operator("]")) {
    if (!list->items.empty()) {
      expect_operator(",");
      if (at_operator("]")) break;
    }
    list->items.push_back(adopt(*list, parse_expression()));
  }
  next();
  return list;
}

ExpressionPtr Parser::parse_dict() {
  auto dict = std::make_unique<DictLiteral>(next().line);
  while (!at_operator("}")) {
    if (!dict->items.empty()) {
      expect_operator(",");
      if (at_operator("}")) break;
    }
    ExpressionPtr key = adopt(*dict, parse_expression());
    expect_operator(":");
    ExpressionPtr value = adopt(*dict, parse_expression());
    dict->items.emplace_back(std::move(key), std::move(value));
  }
  next();
  return dict;
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr object) {
  while (true) {
    if (at_operator(".") || at_operator("[")) {
      object = parse_subscript(std::move(object));
    } else if (at_operator("(")) {
      object = parse_call(std::move(object));
    } else {
      return object;
    }
  }
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr object) {
  const int line = current().line;
  if (next().text == ".") {
    if (current().kind == TokenKind::kInteger) {
      auto item = std::make_unique<Item>(line);
      item->object = adopt(*item, std::move(object));
      item->key = parse_number();
      return item;
    }
    auto attribute = std::make_unique<Attribute>(line);
    attribute->object = adopt(*attribute, std::move(object));
    attribute->name = expect_name("a name or a number behind '.'");
    return attribute;
  }
  ExpressionPtr first = at_operator(":") ? nullptr : parse_expression();
  if (!at_operator(":")) {
    auto item = std::make_unique<Item>(line);
    item->object = adopt(*item, std::move(object));
    item->key = adopt(*item, std::move(first));
    expect_operator("]");
    return item;
  }
  auto slice = std::make_unique<Slice>(line);
  slice->object = adopt(*slice, std::move(object));
  slice->parts[0] = adopt(*slice, std::move(first));
  for (int part = 1; part < 3 && take_operator(":"); ++part) {
    if (at_operator(":") || at_operator("]")) continue;
    slice->parts[part] = adopt(*slice, parse_expression());
  }
  expect_operator("]");
  return slice;
}

ExpressionPtr Parser::parse_filters(ExpressionPtr input) {
  while (true) {
    if (take_operator("|")) {
      input = parse_filter(std::move(input));
    } else if (at_name("is")) {
      input = parse_test(std::move(input));
    } else if (at_operator("(")) {
      input = parse_call(std::move(input));
    } else {
      return input;
    }
  }
}

std::string Parser::parse_dotted_name() {
  std::string name = expect_name("a name");
  while (take_operator(".")) name += "." + expect_name("a name");
  return name;
}

std::unique_ptr<FilterCall> Parser::parse_filter(ExpressionPtr input) {
  auto node = std::make_unique<FilterCall>(current().line);
  node->input = adopt(*node, std::move(input));
  node->name = parse_dotted_name();
  if (at_operator("(")) parse_arguments(*node, node->arguments);
  return node;
}

ExpressionPtr Parser::parse_test(ExpressionPtr input) {
  auto node = std::make_unique<TestCall>(next().line);
  node->input = adopt(*node, std::move(input));
  node->negated = take_name("not");
  node->name = parse_dotted_name();
  const TokenKind kind = current().kind;
  const bool value_follows = kind == TokenKind::kName || kind == TokenKind::kText ||
                             kind == TokenKind::kInteger || kind == TokenKind::kFloat ||
                             at_operator("[") || at_operator("{");
  if (at_operator("(")) {
    parse_arguments(*node, node->arguments);
  } else if (value_follows && !at_name("else") && !at_name("or") && !at_name("and")) {
    if (at_name("is")) unexpected("one test, not a chain of them");
    ExpressionPtr argument = parse_postfix(parse_primary());
    node->arguments.positional.push_back(adopt(*node, std::move(argument)));
  }
  return node;
}

ExpressionPtr Parser::parse_call(ExpressionPtr function) {
  auto node = std::make_unique<Call>(current().line);
  node->function = adopt(*node, std::move(function));
  parse_arguments(*node, node->arguments);
  return node;
}

void Parser::parse_arguments(Node& parent, CallArguments& arguments) {
  const int line = next().line;
  const auto ensure = [&](bool ordered) {
    if (!ordered) throw Fault("the arguments of a call are out of order", line);
  };
  bool first = true;
  while (!at_operator(")")) {
    if (!first) {
      expect_operator(",");
      if (at_operator(")")) break;
    }
    first = false;
    const bool named_before = !arguments.named.empty() || arguments.more_named != nullptr;
    if (take_operator("*")) {
      ensure(arguments.more_positional == nullptr && arguments.more_named == nullptr);
      arguments.more_positional = adopt(parent, parse_expression());
    } else if (take_operator("**")) {
      ensure(arguments.more_named == nullptr);
      arguments.more_named = adopt(parent, parse_expression());
    } else if (current().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator &&
               ahead().text == "=") {
      ensure(arguments.more_named == nullptr);
      std::string name = next().text;
      next();
      arguments.named.emplace_back(std::move(name), adopt(parent, parse_expression()));
    } else {
      ensure(!named_before && arguments.more_positional == nullptr);
      arguments.positional.push_back(adopt(parent, parse_expression()));
    }
  }
  next();
}

}  // namespace halftone::jinja
