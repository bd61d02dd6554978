#include "app/support_matrix.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "calibrate/target_plan.h"
#include "core/error.h"
#include "core/log.h"
#include "export/hf_names.h"

namespace halftone {
namespace {

// What becomes of a format in a model, in the words of a footnote; empty: nothing out of the
// ordinary.
using Notes = std::set<std::string>;

struct Column {
  std::string title;
  std::vector<Recipe> recipes;
};

struct Row {
  std::string name;
  std::unique_ptr<Model> model;
};

// A note and the formats of a column that it holds for.
using Cell = std::map<std::string, std::vector<std::string>>;

const char* const kRefused = "refused, since ";

void for_linears(const Model& model, const TargetPlan& plan,
                 const std::function<void(const LinearSite&, const LinearFormat&)>& body) {
  for (size_t s = 0; s < plan.stages.size(); ++s) {
    const auto& linears = model.stages()[s].linears;
    for (size_t i = 0; i < linears.size(); ++i) {
      if (plan.stages[s].linears[i].quantized()) body(linears[i], plan.stages[s].linears[i]);
    }
  }
}

Notes notes_of(const Model& model, const TargetPlan& plan) {
  Notes notes;
  bool smooths = false;
  bool leaves = false;
  for_linears(model, plan, [&](const LinearSite& linear, const LinearFormat& format) {
    if (!linear.stacked.empty()) {
      notes.insert(stacks_in_hf(linear, format) ? "a layer's experts stay one stacked tensor"
                                                : "stacked experts are written one by one");
    }
    const bool smoothed = format.smoothing != Smoothing::kNone;
    smooths = smooths || smoothed;
    leaves = leaves || (linear.expert >= 0 && !smoothed);
  });
  if (smooths && leaves) notes.insert("routed experts are not smoothed");
  return notes;
}

Notes try_format(const Model& model, const Recipe& recipe) {
  try {
    return notes_of(model, plan_target(model, recipe));
  } catch (const InputError&) {
    const bool cache = std::any_of(
        recipe.rules.begin(), recipe.rules.end(),
        [](const QuantizerRule& rule) { return rule.pattern.find("bmm") != std::string::npos; });
    return {std::string(kRefused) + (cache ? "keys have no power of two of channels"
                                           : "blocks do not divide every weight")};
  } catch (const UsageError& error) {
    const bool none = std::string(error.what()).find("quantizes no linear") != std::string::npos;
    return {std::string(kRefused) +
            (none ? "no linear would be quantized" : "linears that engines merge would differ")};
  }
}

Cell cell_of(const Model& model, const Column& column) {
  Cell cell;
  for (const Recipe& recipe : column.recipes) {
    for (const std::string& note : try_format(model, recipe)) cell[note].push_back(recipe.name);
  }
  return cell;
}

// Relatives share a column: what a weight is stored as, SVDQuant and GPTQ apart.
std::string column_of(const Recipe& recipe, const LinearFormat& format) {
  for (const AlgorithmSpec& spec : recipe.algorithms) {
    if (spec.method == "gptq" || spec.method == "svdquant") return spec.method;
  }
  const std::string name = format_name(format);
  if (name.find("nvfp4") != std::string::npos) return "nvfp4";
  if (name.find("mxfp") != std::string::npos) return "mxfp4, mxfp8";
  return name;
}

std::optional<LinearFormat> first_format(const std::vector<Row>& rows, const Recipe& recipe) {
  std::optional<LinearFormat> first;
  for (const Row& row : rows) {
    try {
      for_linears(*row.model, plan_target(*row.model, recipe),
                  [&](const LinearSite& /*linear*/, const LinearFormat& format) {
                    if (!first) first = format;
                  });
    } catch (const Error&) {
      continue;  // no format of this model
    }
    if (first) break;
  }
  return first;
}

std::vector<Column> columns_for(const std::vector<Row>& rows) {
  std::vector<Column> columns;
  for (const Recipe& recipe : all_presets("ptq")) {
    const auto format = first_format(rows, recipe);
    if (!format) continue;
    const std::string title = column_of(recipe, *format);
    auto column = std::find_if(columns.begin(), columns.end(),
                               [&](const Column& one) { return one.title == title; });
    if (column == columns.end()) column = columns.insert(column, Column{title, {}});
    column->recipes.push_back(recipe);
  }
  columns.push_back({"KV cache", all_presets("kv_cache")});
  return columns;
}

std::string code_list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "`" : ", `") + name + "`";
  return text;
}

std::vector<std::string> names_of(const Column& column) {
  std::vector<std::string> names;
  for (const Recipe& recipe : column.recipes) names.push_back(recipe.name);
  return names;
}

// The shorter of the formats that a note holds for and those that it does not.
std::string which_of(const std::vector<std::string>& names, const Column& column) {
  std::vector<std::string> others;
  for (const std::string& name : names_of(column)) {
    if (std::find(names.begin(), names.end(), name) == names.end()) others.push_back(name);
  }
  if (others.empty()) return "all of the column";
  return others.size() < names.size() ? "all but " + code_list(others) : code_list(names);
}

// Numbers footnotes in the order in which they are met.
class Footnotes {
 public:
  std::string mark(const Cell& cell, const Column& column) {
    std::set<size_t> numbers;
    size_t refused = 0;
    for (const auto& [note, names] : cell) {
      if (note.starts_with(kRefused)) refused += names.size();
      numbers.insert(number_of(note + ": " + which_of(names, column)));
    }
    std::string marks;
    for (const size_t number : numbers) marks += concat(marks.empty() ? "" : ",", number);
    const std::string sign = refused == column.recipes.size() ? "–" : "✓";
    return marks.empty() ? sign : sign + " <sup>" + marks + "</sup>";
  }

  std::string text() const {
    std::string text;
    for (size_t i = 0; i < notes_.size(); ++i) text += concat(i + 1, ". ", notes_[i], "\n");
    return text;
  }

 private:
  size_t number_of(const std::string& note) {
    auto found = std::find(notes_.begin(), notes_.end(), note);
    if (found == notes_.end()) found = notes_.insert(found, note);
    return static_cast<size_t>(found - notes_.begin()) + 1;
  }

  std::vector<std::string> notes_;
};

std::vector<Row> published_rows() {
  std::vector<Row> rows;
  for (const Family& family : families()) {
    for (const PublishedModel& published : family.published) {
      rows.push_back({published.name, published_model(family, published)});
    }
  }
  return rows;
}

std::string heading(const std::vector<Column>& columns) {
  std::string head = "| model | kind |";
  std::string rule = "| --- | --- |";
  for (const Column& column : columns) {
    head += " " + column.title + " |";
    rule += " --- |";
  }
  return head + "\n" + rule + "\n";
}

}  // namespace

std::unique_ptr<Model> published_model(const Family& family, const PublishedModel& published) {
  return family.make({Json::parse(published.config), published.name, {}});
}

std::string kind_of(const Model& model) {
  if (model.has_encoder()) return "encoder-decoder";
  std::string kind = "dense";
  for (const StageSpec& stage : model.stages()) {
    if (stage.experts == 0) continue;
    const bool stacked = std::any_of(stage.linears.begin(), stage.linears.end(),
                                     [](const LinearSite& one) { return !one.stacked.empty(); });
    kind = stacked ? "stacked experts" : "experts";
  }
  return kind;
}

std::string support_matrix() {
  const std::vector<Row> rows = published_rows();
  const std::vector<Column> columns = columns_for(rows);
  Footnotes footnotes;
  std::string text = heading(columns);
  for (const Row& row : rows) {
    text += "| " + row.name + " | " + kind_of(*row.model) + " |";
    for (const Column& column : columns) {
      text += " " + footnotes.mark(cell_of(*row.model, column), column) + " |";
    }
    text += "\n";
  }
  text += "\n| column | formats |\n| --- | --- |\n";
  for (const Column& column : columns) {
    text += "| " + column.title + " | " + code_list(names_of(column)) + " |\n";
  }
  return text + "\n" + footnotes.text();
}

}  // namespace halftone
