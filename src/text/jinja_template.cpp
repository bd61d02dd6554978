#include "text/jinja_template.h"

#include "core/error.h"
#include "core/log.h"
#include "text/jinja_nodes.h"
#include "text/jinja_parser.h"
#include "text/utf8.h"

namespace halftone::jinja {
namespace {

InputError failure(const std::string& source, int line, const Fault& fault) {
  return InputError(
      concat(source, ", line ", fault.line > 0 ? fault.line : line, ": ", fault.what()));
}

}  // namespace

Template::Template(const std::string& text, std::string source) : source_(std::move(source)) {
  const size_t invalid = first_invalid_utf8(text);
  if (invalid != std::string::npos) {
    throw InputError(concat(source_, ": the template is not valid UTF-8 at byte ", invalid));
  }
  try {
    tree_ = std::make_unique<const Tree>(Parser(text).parse());
  } catch (const Fault& fault) {
    throw failure(source_, 1, fault);
  }
}

Template::~Template() = default;
Template::Template(Template&& other) noexcept = default;
Template& Template::operator=(Template&& other) noexcept = default;

std::string Template::render(const Json& variables, const std::function<std::tm()>& now,
                             const Limits& limits) const {
  int line = 0;
  try {
    std::vector<std::optional<Value>> context;
    for (const std::string& name : tree_->names) {
      const auto given = variables.find(name);
      context.push_back(given == variables.end() ? std::nullopt : std::optional(from_json(*given)));
    }
    Run run(limits, std::move(context), now);
    try {
      execute_body(tree_->body, run, std::make_shared<Scope>(nullptr));
    } catch (const Fault&) {
      line = run.line;
      throw;
    }
    return run.take_output();
  } catch (const Fault& fault) {
    throw failure(source_, line, fault);
  }
}

}  // namespace halftone::jinja
