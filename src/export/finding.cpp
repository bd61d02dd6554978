#include "export/finding.h"

#include <algorithm>

#include "core/log.h"

namespace halftone {

std::string text_of(const Finding& finding) {
  std::string text = finding.rule + ":";
  if (!finding.tensor.empty()) text += " '" + finding.tensor + "'";
  if (!finding.file.empty()) {
    text += concat(finding.tensor.empty() ? " '" : " in '", finding.file, "'");
  }
  return concat(text, ": expected ", finding.expected, ", found ", finding.found);
}

Json to_json(const Finding& finding) {
  return {{"kind", finding.rule},         {"tensor", finding.tensor}, {"file", finding.file},
          {"expected", finding.expected}, {"found", finding.found},   {"text", text_of(finding)}};
}

Finding finding_of(const Json& json) {
  return {json.at("kind"), json.at("tensor"), json.at("file"), json.at("expected"),
          json.at("found")};
}

int64_t problems_in(const Findings& findings) {
  return std::count_if(findings.begin(), findings.end(),
                       [](const Finding& finding) { return !finding.warning; });
}

}  // namespace halftone
