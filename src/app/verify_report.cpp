#include "app/verify_report.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "app/run_setup.h"
#include "core/log.h"

namespace halftone {
namespace {

// Of one rule; the rest is counted.
constexpr int64_t kMostListed = 50;
constexpr size_t kWorst = 10;

std::map<std::string, int64_t> counts_of(const Findings& findings) {
  std::map<std::string, int64_t> counts;
  for (const Finding& finding : findings) ++counts[finding.rule];
  return counts;
}

Findings listed(const Findings& findings) {
  std::map<std::string, int64_t> counts;
  Findings list;
  for (const Finding& finding : findings) {
    if (++counts[finding.rule] <= kMostListed) list.push_back(finding);
  }
  return list;
}

// The linears with the least dB first; exact ones are left out.
std::vector<std::pair<double, std::string>> sorted_db(const VerifyReport& report) {
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [name, db] : report.sqnr_db) {
    if (db) sorted.emplace_back(*db, name);
  }
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

Json sqnr_json(const VerifyReport& report) {
  const auto sorted = sorted_db(report);
  Json worst = Json::array();
  for (size_t i = 0; i < std::min(kWorst, sorted.size()); ++i) {
    worst.push_back({{"linear", sorted[i].second}, {"db", sorted[i].first}});
  }
  Json linears = Json::object();
  for (const auto& [name, db] : report.sqnr_db) linears[name] = db ? Json(*db) : Json();
  return {{"median_db", sorted.empty() ? Json() : Json(sorted[sorted.size() / 2].first)},
          {"worst", worst},
          {"linears", linears}};
}

Json report_json(const VerifyResult& result) {
  const Findings& findings = result.report.findings;
  Json json{{"ok", problems_in(findings) == 0},
            {"problems", Json::array()},
            {"warnings", Json::array()},
            {"counts", counts_of(findings)},
            {"tensors", result.tensors},
            {"bytes", result.bytes},
            {"bytes_read", result.report.bytes_read}};
  for (const Finding& finding : listed(findings)) {
    json[finding.warning ? "warnings" : "problems"].push_back(to_json(finding));
  }
  if (!result.report.sqnr_db.empty()) json["sqnr"] = sqnr_json(result.report);
  if (!result.perplexity.is_null()) json["perplexity"] = result.perplexity;
  return json;
}

void print_findings(const Findings& findings) {
  for (const Finding& finding : listed(findings)) {
    std::printf("%s %s\n", finding.warning ? "warning" : "problem", text_of(finding).c_str());
  }
  for (const auto& [rule, count] : counts_of(findings)) {
    const int64_t more = count - kMostListed;
    if (more > 0)
      std::printf("... and %lld more of %s\n", static_cast<long long>(more), rule.c_str());
  }
}

void print_perplexity(const Json& perplexity) {
  std::printf("perplexity %.6f", perplexity.at("value").get<double>());
  if (perplexity.contains("source")) {
    std::printf(", of the source %.6f (%+.2f %%)",
                perplexity.at("source").at("value").get<double>(),
                perplexity.at("change_percent").get<double>());
  }
  std::printf("\n");
}

void print_plain(const fs::path& folder, const VerifyResult& result) {
  print_findings(result.report.findings);
  const auto sorted = sorted_db(result.report);
  if (!sorted.empty()) {
    std::printf("%zu linears, median %.2f dB; the worst:\n", result.report.sqnr_db.size(),
                sorted[sorted.size() / 2].first);
    for (size_t i = 0; i < std::min(kWorst, sorted.size()); ++i) {
      std::printf("%10.2f dB  %s\n", sorted[i].first, sorted[i].second.c_str());
    }
  }
  if (!result.perplexity.is_null()) print_perplexity(result.perplexity);
  const int64_t problems = problems_in(result.report.findings);
  std::printf("%s: %lld tensors, %.2f MB, %lld problems, %lld warnings\n", folder.c_str(),
              static_cast<long long>(result.tensors), static_cast<double>(result.bytes) / 1e6,
              static_cast<long long>(problems),
              static_cast<long long>(std::ssize(result.report.findings) - problems));
}

}  // namespace

void print_report(const Options& options, const fs::path& folder, const VerifyResult& result) {
  if (options.get_flag("json")) {
    print_json(report_json(result));
  } else {
    print_plain(folder, result);
  }
  // Problems end the program by MPI_Abort, which flushes nothing.
  std::fflush(stdout);
}

}  // namespace halftone
