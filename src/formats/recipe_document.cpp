#include "formats/recipe_document.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "core/text_distance.h"

namespace halftone {
namespace {

// What a file may hold, so that a hostile one takes neither memory nor time: aliases and imports
// count as often as they are used.
constexpr int kMaxDepth = 32;
constexpr size_t kMaxValues = 200'000;
constexpr size_t kMaxImportDepth = 16;
constexpr size_t kMaxImports = 256;
constexpr const char* kImport = "$import";

struct Imported {
  YamlValue value;
  size_t values = 0;  // how many it consists of
};

// A file that is being read, with its imports by alias.
struct Scope {
  std::shared_ptr<const YamlSource> source;
  fs::path directory;
  std::vector<std::pair<std::string, Imported>> imports;
};

class DocumentReader {
 public:
  YamlValue read(const RecipeFile& file);

 private:
  void read_imports(const YAML::Node& imports, Scope& scope);
  Imported load_import(const YamlValue& path, const Scope& scope);
  const Imported& imported(const YamlValue& alias, const Scope& scope);
  YamlValue convert(const YAML::Node& node, const Scope& scope, int depth);
  void convert_list(const YAML::Node& node, const Scope& scope, int depth, YamlValue& list);
  void convert_map(const YAML::Node& node, const Scope& scope, int depth, YamlValue& map);
  void count(size_t values, const YamlPlace& place);

  std::vector<std::string> open_;  // identities of the files that import each other just now
  size_t imports_ = 0;
  size_t values_ = 0;
};

YamlPlace place_of(const YAML::Node& node, const Scope& scope) {
  const YAML::Mark mark = node.Mark();
  return {scope.source, mark.is_null() ? 0 : mark.line + 1};
}

std::vector<YAML::Node> parse(const RecipeFile& file) {
  if (file.text.size() > kMaxRecipeBytes) {
    throw UsageError(concat(file.source, ": larger than ", kMaxRecipeBytes, " bytes"));
  }
  try {
    return YAML::LoadAll(file.text);
  } catch (const YAML::Exception& error) {
    throw UsageError(
        concat(file.source, ", line ", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
}

// Puts entries into a map; one that is there already is replaced where it stands.
class MapBuilder {
 public:
  explicit MapBuilder(YamlValue& map) : map_(map) {}

  void set(YamlEntry entry) {
    const auto [at, is_new] = places_.emplace(entry.key, map_.entries.size());
    if (is_new) {
      map_.entries.push_back(std::move(entry));
    } else {
      map_.entries[at->second] = std::move(entry);
    }
  }
  // The keys of an import.
  void merge(const YamlValue& other) {
    if (!other.is_map()) other.fail("expected a mapping");
    for (const YamlEntry& entry : other.entries) set(entry);
  }

 private:
  YamlValue& map_;
  std::map<std::string, size_t> places_;
};

YamlValue DocumentReader::read(const RecipeFile& file) {
  open_.push_back(file.identity);
  Scope scope{
      std::make_shared<YamlSource>(YamlSource{file.source, file.built_in}), file.directory, {}};
  const std::vector<YAML::Node> documents = parse(file);
  YamlValue body;
  body.place.source = scope.source;
  if (!documents.empty()) {
    const YAML::Node& first = documents.front();
    if (first.IsMap()) read_imports(first["imports"], scope);
    if (documents.size() > 1 && (!first.IsMap() || !first["imports"] || first.size() != 1)) {
      place_of(first, scope).fail("of two documents the first must hold imports and nothing else");
    }
    if (documents.size() > 2) place_of(documents[2], scope).fail("a third document");
    body = convert(documents.back(), scope, 0);
    if (documents.size() == 1) {
      std::erase_if(body.entries, [](const YamlEntry& entry) { return entry.key == "imports"; });
    }
  }
  open_.pop_back();
  return body;
}

void DocumentReader::read_imports(const YAML::Node& imports, Scope& scope) {
  if (!imports || imports.IsNull()) return;
  if (!imports.IsMap()) {
    place_of(imports, scope).fail("imports: expected a mapping of aliases to paths");
  }
  for (const auto& entry : imports) {
    const YamlValue alias = convert(entry.first, scope, 0);
    const auto name = alias.as<std::string>("an alias");
    for (const auto& [other, value] : scope.imports) {
      if (other == name) alias.fail(concat("the key '", name, "' appears twice"));
    }
    Imported import = load_import(convert(entry.second, scope, 0), scope);
    scope.imports.emplace_back(name, std::move(import));
  }
}

Imported DocumentReader::load_import(const YamlValue& value, const Scope& scope) {
  const auto path = value.as<std::string>("a path");
  if (++imports_ > kMaxImports) value.fail(concat("more than ", kMaxImports, " imports"));
  if (open_.size() > kMaxImportDepth) {
    value.fail(concat("imports are nested deeper than ", kMaxImportDepth, " files"));
  }
  std::optional<RecipeFile> file = find_import(path, scope.directory);
  if (!file) value.fail(concat("cannot find the import '", path, "'"));
  if (std::find(open_.begin(), open_.end(), file->identity) != open_.end()) {
    value.fail(concat("the import '", path, "' imports itself"));
  }
  file->source = concat(scope.source->name, ", import '", path, "'");
  const size_t before = values_;
  YamlValue body = read(*file);
  return {std::move(body), values_ - before};
}

const Imported& DocumentReader::imported(const YamlValue& alias, const Scope& scope) {
  const auto name = alias.as<std::string>("the alias of an import");
  std::vector<std::string> known;
  for (const auto& [other, import] : scope.imports) {
    if (other == name) {
      count(import.values, alias.place);
      return import;
    }
    known.push_back(other);
  }
  alias.fail(concat("no import is called '", name, "'", nearest_hint(name, known)));
}

void DocumentReader::count(size_t values, const YamlPlace& place) {
  values_ += values;
  if (values_ > kMaxValues) {
    place.fail(concat("more than ", kMaxValues, " values with all aliases and imports"));
  }
}

YamlValue DocumentReader::convert(const YAML::Node& node, const Scope& scope, int depth) {
  YamlValue value;
  value.place = place_of(node, scope);
  count(1, value.place);
  if (depth > kMaxDepth) value.fail(concat("nested deeper than ", kMaxDepth, " levels"));
  if (node.IsScalar()) {
    value.kind = YamlValue::Kind::kScalar;
    value.text = node.Scalar();
  } else if (node.IsSequence()) {
    value.kind = YamlValue::Kind::kList;
    convert_list(node, scope, depth, value);
  } else if (node.IsMap()) {
    value.kind = YamlValue::Kind::kMap;
    convert_map(node, scope, depth, value);
  }
  return value;
}

void DocumentReader::convert_list(const YAML::Node& node, const Scope& scope, int depth,
                                  YamlValue& list) {
  for (const auto& item : node) {
    if (!item.IsMap() || !item[kImport]) {
      list.items.push_back(convert(item, scope, depth + 1));
      continue;
    }
    if (item.size() != 1) {
      place_of(item, scope).fail("$import must be the only key of a list item");
    }
    const YamlValue& value = imported(convert(item[kImport], scope, depth + 1), scope).value;
    if (value.is_list()) {
      list.items.insert(list.items.end(), value.items.begin(), value.items.end());
    } else {
      list.items.push_back(value);
    }
  }
}

void DocumentReader::convert_map(const YAML::Node& node, const Scope& scope, int depth,
                                 YamlValue& map) {
  MapBuilder builder(map);
  if (const YAML::Node aliases = node[kImport]) {
    const YamlValue value = convert(aliases, scope, depth + 1);
    if (!value.is_list()) builder.merge(imported(value, scope).value);
    for (const YamlValue& alias : value.items) builder.merge(imported(alias, scope).value);
  }
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const YamlPlace place = place_of(entry.first, scope);
    if (!entry.first.IsScalar()) place.fail("a key must be plain text");
    const std::string& key = entry.first.Scalar();
    if (!seen.insert(key).second) place.fail(concat("the key '", key, "' appears twice"));
    if (key != kImport) builder.set({key, place, convert(entry.second, scope, depth + 1)});
  }
}

}  // namespace

YamlValue read_recipe_document(const RecipeFile& file) {
  return DocumentReader().read(file);
}

}  // namespace halftone
