#pragma once

#include <string>
#include <vector>

namespace halftone {

struct PlotPoint {
  double x = 0;
  double y = 0;
  std::string label;  // shown beside the mark when not empty
};

struct PlotSeries {
  std::string name;  // of the legend
  std::vector<PlotPoint> points;
  bool joined = false;  // by a line, in the points' order
};

struct PlotPanel {
  std::string title, x_label, y_label;
  bool logarithmic = false;  // the y axis; points at or below zero are left out
  std::vector<PlotSeries> series;
};

// A picture of panels, one below the other, as a stand-alone SVG document: no script, no font file,
// equal bytes for equal input.
std::string svg_plot(const std::vector<PlotPanel>& panels);

}  // namespace halftone
