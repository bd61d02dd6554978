#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

namespace halftone {

// The options of a subcommand: declared once with their group, default, range and one line of help;
// read from the command line and from --config FILE.yaml (the same names; the command line wins).
class Options {
 public:
  // usage: "halftone quantize --model DIR --format NAME --out DIR [options]"
  Options(std::string usage, std::string description);

  // Starts a group of --help.
  void group(const std::string& title);
  void text(const std::string& name, const std::string& value_name, const std::string& fallback,
            const std::string& help);
  // One of `choices`.
  void choice(const std::string& name, const std::vector<std::string>& choices,
              const std::string& fallback, const std::string& help);
  void integer(const std::string& name, int64_t fallback, int64_t smallest, int64_t largest,
               const std::string& help);
  // "auto" or an integer in the range; "auto" reads as 0.
  void integer_or_auto(const std::string& name, int64_t smallest, int64_t largest,
                       const std::string& help);
  void number(const std::string& name, double fallback, double smallest, double largest,
              const std::string& help);
  // "auto" or a number of bytes: "24GB", "2TB" (powers of 1000), "512MiB" (of 1024), or without a
  // unit; "auto" reads as 0.
  void bytes(const std::string& name, const std::string& help);
  void flag(const std::string& name, const std::string& help);
  // One or more values.
  void paths(const std::string& name, const std::string& help);
  // A word without a name is the value of this text option; the next one, of the next call's.
  void positional(const std::string& name);

  // UsageErrors name the option, what was expected and found, and the nearest name of an unknown
  // one. Returns false when --help was asked for.
  bool parse(const std::vector<std::string>& arguments);
  std::string help() const;

  bool given(const std::string& name) const;
  const std::string& get(const std::string& name) const;
  // The text of an option that must be given.
  const std::string& required(const std::string& name) const;
  int64_t get_integer(const std::string& name) const;
  int64_t get_bytes(const std::string& name) const;
  double get_number(const std::string& name) const;
  bool get_flag(const std::string& name) const;
  const std::vector<std::string>& get_paths(const std::string& name) const;
  // Every option with the value in force.
  Json resolved() const;

 private:
  enum class Kind { kText, kChoice, kInteger, kIntegerOrAuto, kNumber, kBytes, kFlag, kPaths };
  struct Option {
    Kind kind;
    std::string name;
    std::string group;
    std::string value_name;
    std::string help;
    std::vector<std::string> values;  // in force
    std::vector<std::string> choices;
    int64_t smallest = 0;
    int64_t largest = 0;
    double smallest_number = 0.0;
    double largest_number = 0.0;
    bool given = false;
  };
  Option& add(Kind kind, const std::string& name, const std::string& value_name,
              const std::string& help);
  const Option& find(const std::string& name, Kind kind) const;
  Option* lookup(const std::string& name);
  std::vector<std::string> names() const;
  void set(Option& option, const std::vector<std::string>& values, const std::string& place);
  void read_config_file(const std::string& path);
  std::string allowed(const Option& option) const;

  std::string usage_;
  std::string description_;
  std::string group_;
  std::vector<std::string> positional_;  // words without a name are refused behind these
  std::vector<Option> options_;
};

}  // namespace halftone
