#pragma once

#include <memory>
#include <span>
#include <string>

#include "core/json.h"
#include "core/log.h"
#include "text/json_shape.h"

namespace halftone {

// How one type of a part of tokenizer.json is made; `source` names the file and the part in errors.
template <typename Part>
struct PartKind {
  const char* type = "";
  std::unique_ptr<Part> (*make)(const Json& part, const std::string& source) = nullptr;
};

// The part that `part` describes, by its "type"; a type that is not listed is an InputError.
template <typename Part>
std::unique_ptr<Part> make_part(std::span<const PartKind<Part>> kinds, const Json& part,
                                const std::string& source) {
  const std::string type = part_type(part, source);
  std::string supported;
  for (const PartKind<Part>& kind : kinds) {
    if (type == kind.type) return kind.make(part, concat(source, ", ", type));
    supported += concat(supported.empty() ? "" : ", ", kind.type);
  }
  refuse_part(source, concat("type '", type, "'"), supported);
}

}  // namespace halftone
