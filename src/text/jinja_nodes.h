#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_runtime.h"

// The tree of a template. Every node evaluates itself.
namespace halftone::jinja {

struct Node {
  explicit Node(int line_) : line(line_) {}
  virtual ~Node() = default;

  int line;
  int height = 1;  // levels of nodes, for the recursion that evaluation needs
};

struct Expression : Node {
  using Node::Node;
  virtual Value evaluate(Run& run, const ScopePtr& scope) const = 0;
};
using ExpressionPtr = std::unique_ptr<Expression>;

// What ends a body before its end.
enum class Flow { kNext, kBreak, kContinue };

struct Statement : Node {
  using Node::Node;
  virtual Flow execute(Run& run, const ScopePtr& scope) const = 0;
};
using Body = std::vector<std::unique_ptr<Statement>>;
Flow execute_body(const Body& body, Run& run, const ScopePtr& scope);

// What is assigned to: a name, an attribute of a namespace, or a list of targets.
struct Target {
  int name = -1;
  std::string spelling;
  std::string attribute;      // with `name`: of the namespace of that name
  std::vector<Target> parts;  // without a name
  void assign(Run& run, const ScopePtr& scope, const Value& value) const;
};

struct Literal : Expression {
  Literal(int line_, Value value_) : Expression(line_), value(std::move(value_)) {}
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  Value value;
};

struct Name : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  int name = -1;
  std::string spelling;
};

struct Sequence : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  List::Kind kind = List::Kind::kList;
  std::vector<ExpressionPtr> items;
};

struct DictLiteral : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};

struct Unary : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  char op = '-';  // '-', '+', '!'
  ExpressionPtr operand;
};

struct Arithmetic : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  std::string op;  // + - * / // % **
  ExpressionPtr left;
  ExpressionPtr right;
};

// `and` and `or`: the operand that decides.
struct Logic : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  bool is_or = false;
  std::vector<ExpressionPtr> operands;
};

struct Concatenation : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  std::vector<ExpressionPtr> parts;
};

// a < b <= c: every operand is evaluated once.
struct Comparison : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  ExpressionPtr first;
  std::vector<std::pair<std::string, ExpressionPtr>> rest;
};

struct Conditional : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  ExpressionPtr condition;
  ExpressionPtr chosen;
  ExpressionPtr otherwise;  // null: undefined
};

struct Attribute : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  ExpressionPtr object;
  std::string name;
};

struct Item : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  ExpressionPtr object;
  ExpressionPtr key;
};

struct Slice : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  ExpressionPtr object;
  ExpressionPtr parts[3];  // start, stop, step; null where left out
};

struct CallArguments {
  Arguments evaluate(Run& run, const ScopePtr& scope) const;
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional;  // of *list
  ExpressionPtr more_named;       // of **dict
};

struct Call : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  // With what a call block passes on; may be null.
  Value call(Run& run, const ScopePtr& scope, const Value* caller) const;
  ExpressionPtr function;
  CallArguments arguments;
};

struct FilterCall : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  // To what a block has written, where the chain begins there.
  Value apply(Run& run, const ScopePtr& scope, const Value& block) const;
  ExpressionPtr input;  // null: the block
  std::string name;
  CallArguments arguments;
};

struct TestCall : Expression {
  using Expression::Expression;
  Value evaluate(Run& run, const ScopePtr& scope) const override;
  ExpressionPtr input;
  std::string name;
  bool negated = false;
  CallArguments arguments;
};

struct Data : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  std::string text;
};

struct Print : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  ExpressionPtr value;
};

struct If : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};

struct For : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  // may be null
  bool recursive = false;
  Body body;
  Body otherwise;
  int loop_name = -1;

 private:
  void run_over(Run& run, const ScopePtr& scope, const Value& iterable_value, int64_t level) const;
};

struct Jump : Statement {
  Jump(int line_, Flow flow_) : Statement(line_), flow(flow_) {}
  Flow execute(Run& run, const ScopePtr& scope) const override;
  Flow flow;
};

struct Set : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  Target target;
  ExpressionPtr value;
};

struct SetBlock : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  Target target;
  std::unique_ptr<FilterCall> filter;  // may be null
  Body body;
};

// {% with %} and {% generation %}: names of their own.
struct Block : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  std::vector<std::pair<Target, ExpressionPtr>> names;
  Body body;
};

struct FilterBlock : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  std::unique_ptr<FilterCall> filter;
  Body body;
};

struct Macro : Statement {
  struct Parameter {
    int name;
    std::string spelling;
    ExpressionPtr fallback;  // may be null
  };

  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  Value make(Run& run, const ScopePtr& scope) const;
  Value call(Run& run, const ScopePtr& scope, const Arguments& arguments) const;

  int name = -1;
  std::string spelling;
  std::vector<Parameter> parameters;
  Body body;
  // The names that have a meaning in its body; -1 where it does not use them.
  int varargs = -1;
  int kwargs = -1;
  int caller = -1;

 private:
  void take_rest(Run& run, Scope& inner, const Arguments& arguments) const;
};

struct CallBlock : Statement {
  using Statement::Statement;
  Flow execute(Run& run, const ScopePtr& scope) const override;
  std::unique_ptr<Macro> macro;  // what `caller` is
  std::unique_ptr<Call> call;
};

// A template that is read: names are numbers within it.
struct Tree {
  Body body;
  std::vector<std::string> names;
};

}  // namespace halftone::jinja
