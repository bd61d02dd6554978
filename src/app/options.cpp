#include "app/options.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text_distance.h"
#include "kernels/check.h"

namespace halftone {
namespace {

namespace po = boost::program_options;

bool parse_integer(const std::string& text, int64_t& value) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end;
}

bool parse_number(const std::string& text, double& value) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end;
}

// "24GB", "1.5TiB", "1000".
bool parse_bytes(const std::string& text, int64_t& value) {
  double number = 0.0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || !(number >= 0.0)) return false;
  std::string unit(rest, end);
  double factor = 1.0;
  if (!unit.empty()) {
    const size_t power = std::string("kMGTP").find(unit[0] == 'K' ? 'k' : unit[0]);
    const std::string tail = unit.substr(1);
    if (unit != "B") {
      if (power == std::string::npos || (tail != "B" && tail != "iB")) return false;
      factor = std::pow(tail == "iB" ? 1024.0 : 1000.0, static_cast<double>(power) + 1.0);
    }
  }
  number = std::floor(number * factor);
  if (number < 1.0 || number > 9e18) return false;
  value = static_cast<int64_t>(number);
  return true;
}

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

}  // namespace

Options::Options(std::string usage, std::string description)
    : usage_(std::move(usage)), description_(std::move(description)) {
  group("General");
  text("config", "FILE.yaml", "", "read options from a file; the command line wins");
  flag("help", "show this help");
}

void Options::group(const std::string& title) {
  group_ = title;
}

Options::Option& Options::add(Kind kind, const std::string& name, const std::string& value_name,
                              const std::string& help) {
  check(lookup(name) == nullptr, "an option is declared once: " + name);
  options_.push_back({kind, name, group_, value_name, help, {}, {}});
  return options_.back();
}

void Options::text(const std::string& name, const std::string& value_name,
                   const std::string& fallback, const std::string& help) {
  add(Kind::kText, name, value_name, help).values = {fallback};
}

void Options::choice(const std::string& name, const std::vector<std::string>& choices,
                     const std::string& fallback, const std::string& help) {
  Option& option = add(Kind::kChoice, name, joined(choices, "|"), help);
  option.choices = choices;
  option.values = {fallback};
}

void Options::integer(const std::string& name, int64_t fallback, int64_t smallest, int64_t largest,
                      const std::string& help) {
  Option& option = add(Kind::kInteger, name, "N", help);
  option.values = {std::to_string(fallback)};
  option.smallest = smallest;
  option.largest = largest;
}

void Options::integer_or_auto(const std::string& name, int64_t smallest, int64_t largest,
                              const std::string& help) {
  Option& option = add(Kind::kIntegerOrAuto, name, "N|auto", help);
  option.values = {"auto"};
  option.smallest = smallest;
  option.largest = largest;
}

void Options::number(const std::string& name, double fallback, double smallest, double largest,
                     const std::string& help) {
  Option& option = add(Kind::kNumber, name, "X", help);
  option.values = {Json(fallback).dump()};
  option.smallest_number = smallest;
  option.largest_number = largest;
}

void Options::bytes(const std::string& name, const std::string& help) {
  add(Kind::kBytes, name, "BYTES|auto", help).values = {"auto"};
}

void Options::flag(const std::string& name, const std::string& help) {
  add(Kind::kFlag, name, "", help).values = {"false"};
}

void Options::paths(const std::string& name, const std::string& help) {
  add(Kind::kPaths, name, "PATH ...", help);
}

void Options::positional(const std::string& name) {
  find(name, Kind::kText);
  positional_.push_back(name);
}

Options::Option* Options::lookup(const std::string& name) {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& option) { return option.name == name; });
  return found == options_.end() ? nullptr : &*found;
}

std::vector<std::string> Options::names() const {
  std::vector<std::string> names;
  for (const Option& option : options_) names.push_back(option.name);
  return names;
}

std::string Options::allowed(const Option& option) const {
  switch (option.kind) {
    case Kind::kChoice:
      return "one of " + joined(option.choices, ", ");
    case Kind::kInteger:
      return concat("an integer from ", option.smallest, " to ", option.largest);
    case Kind::kIntegerOrAuto:
      return concat("auto or an integer from ", option.smallest, " to ", option.largest);
    case Kind::kNumber:
      return concat("a number from ", option.smallest_number, " to ", option.largest_number);
    case Kind::kBytes:
      return "auto or a number of bytes, as 24GB or 512MiB";
    case Kind::kFlag:
      return "true or false";
    case Kind::kPaths:
      return "one or more paths";
    case Kind::kText:
      break;
  }
  return "one value";
}

void Options::set(Option& option, const std::vector<std::string>& values,
                  const std::string& place) {
  const auto fail = [&] {
    throw UsageError(
        concat(place, ": expected ", allowed(option), ", found '", joined(values, " "), "'"));
  };
  const bool list = option.kind == Kind::kPaths;
  if (list ? values.empty() : values.size() != 1) fail();
  const std::string& value = values.front();
  int64_t number = 0;
  double real = 0.0;
  const auto in_range = [&] {
    return parse_integer(value, number) && number >= option.smallest && number <= option.largest;
  };
  switch (option.kind) {
    case Kind::kChoice:
      if (std::find(option.choices.begin(), option.choices.end(), value) == option.choices.end()) {
        throw UsageError(concat(place, ": expected ", allowed(option), ", found '", value, "'",
                                nearest_hint(value, option.choices)));
      }
      break;
    case Kind::kInteger:
      if (!in_range()) fail();
      break;
    case Kind::kIntegerOrAuto:
      if (value != "auto" && !in_range()) fail();
      break;
    case Kind::kNumber:
      if (!parse_number(value, real) ||
          !(real >= option.smallest_number && real <= option.largest_number)) {
        fail();
      }
      break;
    case Kind::kBytes:
      if (value != "auto" && !parse_bytes(value, number)) fail();
      break;
    case Kind::kFlag:
      if (value != "true" && value != "false") fail();
      break;
    case Kind::kText:
    case Kind::kPaths:
      break;
  }
  option.values = values;
  option.given = true;
}

void Options::read_config_file(const std::string& path) {
  YAML::Node root;
  try {
    root = YAML::Load(read_text_file(path, 1 << 20));
  } catch (const YAML::Exception& error) {
    throw UsageError(concat(path, ", line ", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
  if (!root.IsMap()) throw UsageError(path + ": expected a mapping of options to values");
  for (const auto& entry : root) {
    const auto name = entry.first.as<std::string>("");
    const std::string place = concat(path, ", line ", entry.first.Mark().line + 1, ", ", name);
    Option* option = lookup(name);
    if (option == nullptr || name == "config" || name == "help") {
      throw UsageError(concat(place, ": unknown option", nearest_hint(name, names())));
    }
    if (option->given) continue;
    std::vector<std::string> values;
    if (entry.second.IsSequence()) {
      for (const auto& value : entry.second) values.push_back(value.as<std::string>(""));
      if (option->kind == Kind::kText) values = {joined(values, ",")};
    } else {
      values.push_back(entry.second.as<std::string>(""));
    }
    set(*option, values, place);
  }
}

bool Options::parse(const std::vector<std::string>& arguments) {
  po::options_description description;
  for (const Option& option : options_) {
    if (option.kind == Kind::kFlag) {
      description.add_options()(option.name.c_str(), "");
    } else if (option.kind == Kind::kPaths) {
      description.add_options()(option.name.c_str(),
                                po::value<std::vector<std::string>>()->multitoken(), "");
    } else {
      description.add_options()(option.name.c_str(), po::value<std::vector<std::string>>(), "");
    }
  }
  po::positional_options_description positional;
  for (const std::string& name : positional_) positional.add(name.c_str(), 1);
  try {
    const int style =
        po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    const po::parsed_options parsed = po::command_line_parser(arguments)
                                          .options(description)
                                          .style(style)
                                          .positional(positional)
                                          .run();
    for (const auto& one : parsed.options) {
      Option& option = *lookup(one.string_key);
      if (option.given && option.kind != Kind::kPaths) {
        throw UsageError(concat("--", option.name, " is given twice"));
      }
      std::vector<std::string> values = one.value;
      // The library takes the next word for the value even where it is an option.
      for (const std::string& value : values) {
        if (value.starts_with("--") && lookup(value.substr(2)) != nullptr) {
          throw UsageError(concat("--", option.name, ": expected ", allowed(option),
                                  ", found the option ", value));
        }
      }
      if (option.kind == Kind::kFlag) values = {"true"};
      if (option.given) values.insert(values.begin(), option.values.begin(), option.values.end());
      set(option, values, "--" + option.name);
    }
  } catch (const po::unknown_option& error) {
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    throw UsageError(concat("unknown option '--", name, "'", nearest_hint(name, names()),
                            "; --help lists them"));
  } catch (const po::error& error) {
    throw UsageError(concat(error.what(), "; --help lists the options"));
  }
  if (get_flag("help")) return false;
  if (given("config")) read_config_file(get("config"));
  return true;
}

std::string Options::help() const {
  constexpr size_t kColumn = 30;
  std::string text = "Usage: " + usage_ + "\n" + description_ + "\n";
  std::vector<std::string> groups;
  for (const Option& option : options_) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) {
      groups.push_back(option.group);
    }
  }
  for (const std::string& group : groups) {
    text += "\n" + group + "\n";
    for (const Option& option : options_) {
      if (option.group != group) continue;
      std::string left = "  --" + option.name;
      if (!option.value_name.empty()) left += " " + option.value_name;
      text += left;
      if (left.size() + 1 > kColumn) {
        text += "\n" + std::string(kColumn, ' ');
      } else {
        text += std::string(kColumn - left.size(), ' ');
      }
      text += option.help;
      const bool has_default = option.kind != Kind::kFlag && option.kind != Kind::kPaths &&
                               !option.values.front().empty() && !option.given;
      if (has_default) text += " [" + option.values.front() + "]";
      text += "\n";
    }
  }
  return text;
}

const Options::Option& Options::find(const std::string& name, Kind kind) const {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& option) { return option.name == name; });
  check(found != options_.end(), "only declared options are read: " + name);
  check(found->kind == kind || kind == Kind::kText, "an option is read as its own kind: " + name);
  return *found;
}

bool Options::given(const std::string& name) const {
  return find(name, Kind::kText).given;
}

const std::string& Options::get(const std::string& name) const {
  return find(name, Kind::kText).values.front();
}

const std::string& Options::required(const std::string& name) const {
  const std::string& value = get(name);
  if (value.empty()) throw UsageError(concat("--", name, " is missing; --help lists the options"));
  return value;
}

int64_t Options::get_integer(const std::string& name) const {
  int64_t number = 0;
  parse_integer(get(name), number);
  return number;
}

int64_t Options::get_bytes(const std::string& name) const {
  int64_t value = 0;
  const std::string& text = find(name, Kind::kBytes).values.front();
  return text == "auto" || !parse_bytes(text, value) ? 0 : value;
}

double Options::get_number(const std::string& name) const {
  double number = 0.0;
  parse_number(find(name, Kind::kNumber).values.front(), number);
  return number;
}

bool Options::get_flag(const std::string& name) const {
  return find(name, Kind::kFlag).values.front() == "true";
}

const std::vector<std::string>& Options::get_paths(const std::string& name) const {
  return find(name, Kind::kPaths).values;
}

Json Options::resolved() const {
  Json json = Json::object();
  for (const Option& option : options_) {
    if (option.name == "help" || option.name == "config") continue;
    int64_t number = 0;
    if (option.kind == Kind::kPaths) {
      json[option.name] = option.values;
    } else if (option.kind == Kind::kFlag) {
      json[option.name] = option.values.front() == "true";
    } else if (option.kind == Kind::kNumber) {
      json[option.name] = get_number(option.name);
    } else if (option.kind != Kind::kText && parse_integer(option.values.front(), number)) {
      json[option.name] = number;
    } else {
      json[option.name] = option.values.front();
    }
  }
  return json;
}

}  // namespace halftone
