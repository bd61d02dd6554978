#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/recipe_files.h"

namespace halftone {

struct YamlSource {
  std::string name;  // for messages: "mine.yaml, import 'base'"
  bool built_in = false;
};

// Where a value was written.
struct YamlPlace {
  std::shared_ptr<const YamlSource> source;
  int line = 0;  // 0: unknown

  std::string text() const;
  // A UsageError "mine.yaml, line 3: ...".
  [[noreturn]] void fail(const std::string& text) const;
};

struct YamlEntry;

// A YAML value whose imports are resolved; each part still knows its file and line.
struct YamlValue {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  YamlPlace place;
  std::string text;                // of a scalar
  std::vector<YamlValue> items;    // of a list
  std::vector<YamlEntry> entries;  // of a map, in order, no key twice

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }

  // The member `key` of a map; nullptr when there is none or this is no map.
  const YamlValue* find(std::string_view key) const;
  // The scalar as bool, int64_t, double (finite) or std::string; anything else fails with
  // "expected <what>".
  template <typename T>
  T as(const char* what) const;
  [[noreturn]] void fail(const std::string& text) const { place.fail(text); }
  // Fails unless this is a map of these keys only; the message suggests the nearest.
  void only_keys(const std::vector<std::string>& allowed) const;
};

struct YamlEntry {
  std::string key;
  YamlPlace place;
  YamlValue value;
};

// Reads a recipe file: one document, or the imports in a first and the body in a second one.
//   imports: {alias: path}         files inside the program, else beside the importing file
//   {$import: alias, key: value}   in a map: the import's keys, then the map's own, which win;
//                                  a list of aliases is merged in order
//   - $import: alias               in a list: a list is spliced in, anything else is one element
// Cycles, missing files, and more than the limits in recipe_document.cpp are UsageErrors.
YamlValue read_recipe_document(const RecipeFile& file);

}  // namespace halftone
