#include "app/search_report.h"

#include <cstdio>
#include <map>

#include "core/log.h"
#include "report/plot.h"

namespace halftone {
namespace {

std::string frontier_svg(const Json& report) {
  PlotPanel predicted;
  predicted.title = "Predicted loss";
  predicted.x_label = "bits a weight";
  predicted.y_label = "score (" + report.at("method").get<std::string>() + ")";
  predicted.logarithmic = true;
  PlotSeries frontier{"frontier", {}, true};
  for (const Json& point : report.at("frontier")) {
    frontier.points.push_back(
        {point.at("bits").get<double>(), point.at("score").get<double>(), ""});
  }
  PlotSeries chosen{"chosen", {}, false};
  PlotSeries measured{"measured", {}, true};
  for (const Json& decision : report.at("decisions")) {
    const auto bits = decision.at("bits").get<double>();
    chosen.points.push_back(
        {bits, decision.at("score").get<double>(), decision.at("name").get<std::string>()});
    if (!decision.contains("perplexity")) continue;
    measured.points.push_back(
        {bits, decision.at("perplexity").get<double>(), decision.at("name").get<std::string>()});
  }
  predicted.series = {frontier, chosen};
  std::vector<PlotPanel> panels{predicted};
  if (!measured.points.empty()) {
    PlotPanel panel;
    panel.title = "Measured perplexity";
    panel.x_label = predicted.x_label;
    panel.y_label = "perplexity";
    panel.series = {measured};
    panels.push_back(panel);
  }
  return svg_plot(panels);
}

}  // namespace

void write_frontier(const fs::path& out, const Json& report) {
  write_text_file(out.string() + ".frontier.json", report.dump(2) + "\n");
  write_text_file(out.string() + ".frontier.svg", frontier_svg(report));
}

void print_decisions(const std::vector<Decision>& decisions, const QuantizeResult& result) {
  std::printf("%-12s %8s %8s %8s %12s %12s  %s\n", "output", "budget", "bits", "stored", "score",
              "perplexity", "checkpoint");
  for (size_t t = 0; t < decisions.size(); ++t) {
    const Decision& one = decisions[t];
    const std::string perplexity =
        one.perplexity ? std::to_string(*one.perplexity) : std::string("-");
    std::printf("%-12s %8.3f %8.3f %8.3f %12.5g %12s  %s\n", one.name.c_str(), one.target_bits,
                one.bits, one.stored_bits, one.score, perplexity.c_str(),
                result.outputs[t].dir.c_str());
  }
}

void log_decisions(const SearchSpace& space, const std::vector<Decision>& decisions) {
  for (const Decision& decision : decisions) {
    std::map<std::string, int64_t> groups;
    for (const size_t c : decision.chosen) ++groups[space.candidates[c].name];
    std::string text;
    for (const auto& [name, count] : groups) {
      text += concat(text.empty() ? "" : ", ", count, " groups ", name);
    }
    log_info(decision.name, ": ", decision.bits, " bits a weight (", decision.stored_bits,
             " stored), predicted loss ", decision.score,
             decision.gap > 0.0 ? concat(", at most ", decision.gap, " above the least") : "", "; ",
             text);
  }
}

}  // namespace halftone
