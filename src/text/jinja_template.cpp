#include "text/jinja_template.h"

#include "core/error.h"
#include "core/log.h"
#include "text/jinja_nodes.h"
#include "text/jinja_parser.h"
#include "text/utf8.h"

namespace halftone::jinja {
namespace {

Value from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > uint64_t{INT64_MAX}) {
        throw Fault(concat("the integer ", json.dump(), " is beyond 64 bits"));
      }
      [[fallthrough]];
    case Json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string:
      return Value(json.get<std::string>());
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(from_json(item));
      return make_list(std::move(items));
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, value] : json.items()) dict.set(Value(key), from_json(value));
      return make_dict(std::move(dict));
    }
    default:
      return {};
  }
}

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
