#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>

#include "core/json.h"
#include "text/jinja_runtime.h"

namespace halftone::jinja {

struct Tree;

// A template of transformers' dialect: trim_blocks, lstrip_blocks, loop controls, {% generation %},
// lists and dicts that nothing changes. It reads no file and runs nothing of the host's.
// Our own: the distributions package no implementation in C++ that runs these templates.
class Template {
 public:
  // InputError naming `source` and the line where the text cannot be read.
  Template(const std::string& text, std::string source);
  ~Template();
  Template(Template&& other) noexcept;
  Template& operator=(Template&& other) noexcept;

  // `variables` is an object. `now` serves strftime_now. InputError naming the source and the line
  // where the template fails, refuses (raise_exception) or goes beyond `limits`.
  std::string render(const Json& variables, const std::function<std::tm()>& now,
                     const Limits& limits = {}) const;

 private:
  std::string source_;
  std::unique_ptr<const Tree> tree_;
};

}  // namespace halftone::jinja
