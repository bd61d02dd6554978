#include "report/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace halftone {
namespace {

constexpr double kWidth = 720, kHeight = 400;  // of a panel
constexpr double kLeft = 84, kRight = 24, kTop = 40, kBottom = 56;
constexpr const char* kColours[] = {"#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#495057"};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value == 0 ? 0.0 : value);
  return text;
}

// Coordinates: a hundredth of a pixel is enough.
std::string at(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return result;
}

std::string text_at(double x, double y, const std::string& anchor, const std::string& text,
                    const std::string& more = "") {
  return "<text x=\"" + at(x) + "\" y=\"" + at(y) + "\" text-anchor=\"" + anchor + "\"" + more +
         ">" + escaped(text) + "</text>\n";
}

std::string line_at(double x0, double y0, double x1, double y1, const std::string& style) {
  return "<line x1=\"" + at(x0) + "\" y1=\"" + at(y0) + "\" x2=\"" + at(x1) + "\" y2=\"" + at(y1) +
         "\" " + style + "/>\n";
}

// A range of values on one axis, and the values at which it is labelled.
class Axis {
 public:
  Axis(double low, double high, bool logarithmic) : logarithmic_(logarithmic) {
    if (!(low <= high)) {
      low = high = logarithmic ? 1 : 0;
    }
    low_ = scaled(low);
    high_ = scaled(high);
    const double margin = high_ > low_ ? 0.04 * (high_ - low_) : 0.5;
    low_ -= margin;
    high_ += margin;
  }

  // 0 at the low end, 1 at the high one.
  double share(double value) const { return (scaled(value) - low_) / (high_ - low_); }

  std::vector<double> ticks() const {
    // Decades where two or more are in view, otherwise round numbers.
    if (logarithmic_ && std::floor(high_) - std::ceil(low_) >= 1) {
      std::vector<double> decades;
      for (double power = std::ceil(low_); power <= high_; power += 1) {
        decades.push_back(std::pow(10.0, power));
      }
      return decades;
    }
    const double low = logarithmic_ ? std::pow(10.0, low_) : low_;
    const double high = logarithmic_ ? std::pow(10.0, high_) : high_;
    const double step = round_step((high - low) / 5);
    std::vector<double> values;
    for (double k = std::ceil(low / step); k * step <= high; k += 1) {
      values.push_back(k * step);
    }
    return values;
  }

 private:
  double scaled(double value) const { return logarithmic_ ? std::log10(value) : value; }

  static double round_step(double rough) {
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    for (double factor : {1.0, 2.0, 5.0}) {
      if (rough <= factor * power) {
        return factor * power;
      }
    }
    return 10 * power;
  }

  bool logarithmic_;
  double low_ = 0, high_ = 0;  // scaled
};

bool visible(const PlotPanel& panel, const PlotPoint& point) {
  return std::isfinite(point.x) && std::isfinite(point.y) && !(panel.logarithmic && point.y <= 0);
}

Axis axis_of(const PlotPanel& panel, double PlotPoint::*value, bool logarithmic) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const PlotSeries& series : panel.series) {
    for (const PlotPoint& point : series.points) {
      if (visible(panel, point)) {
        low = std::min(low, point.*value);
        high = std::max(high, point.*value);
      }
    }
  }
  return {low, high, logarithmic};
}

// Pixels of a panel whose top is at `top`.
struct Frame {
  Axis x, y;
  double top;

  double left() const { return kLeft; }
  double right() const { return kWidth - kRight; }
  double bottom() const { return top + kHeight - kBottom; }
  double column(double value) const { return kLeft + x.share(value) * (right() - kLeft); }
  double row(double value) const { return bottom() - y.share(value) * (bottom() - top - kTop); }
};

std::string drawn_axes(const PlotPanel& panel, const Frame& frame) {
  const std::string grid = "stroke=\"#dee2e6\"", edge = "stroke=\"#212529\"";
  const double head = frame.top + kTop;
  std::string svg;
  for (double tick : frame.x.ticks()) {
    const double x = frame.column(tick);
    svg += line_at(x, head, x, frame.bottom(), grid);
    svg += text_at(x, frame.bottom() + 18, "middle", number(tick));
  }
  for (double tick : frame.y.ticks()) {
    const double y = frame.row(tick);
    svg += line_at(frame.left(), y, frame.right(), y, grid);
    svg += text_at(frame.left() - 8, y + 4, "end", number(tick));
  }
  svg += line_at(frame.left(), frame.bottom(), frame.right(), frame.bottom(), edge);
  svg += line_at(frame.left(), head, frame.left(), frame.bottom(), edge);
  const double middle = (head + frame.bottom()) / 2;
  svg += text_at(kWidth / 2, frame.top + 22, "middle", panel.title, " font-weight=\"bold\"");
  svg += text_at((frame.left() + frame.right()) / 2, frame.bottom() + 42, "middle", panel.x_label);
  svg += text_at(18, middle, "middle", panel.y_label,
                 " transform=\"rotate(-90 18 " + at(middle) + ")\"");
  return svg;
}

std::string drawn_series(const PlotPanel& panel, const PlotSeries& series, const Frame& frame,
                         const std::string& colour) {
  std::string path, marks;
  for (const PlotPoint& point : series.points) {
    if (!visible(panel, point)) {
      continue;
    }
    const double x = frame.column(point.x), y = frame.row(point.y);
    path += at(x) + "," + at(y) + " ";
    marks += "<circle cx=\"" + at(x) + "\" cy=\"" + at(y) + "\" r=\"" +
             (series.joined ? "2" : "4") + "\" fill=\"" + colour + "\"/>\n";
    if (!point.label.empty()) {
      marks += text_at(x + 7, y - 6, "start", point.label);
    }
  }
  if (series.joined && !path.empty()) {
    path.pop_back();
    marks = "<polyline points=\"" + path + "\" fill=\"none\" stroke=\"" + colour + "\"/>\n" + marks;
  }
  return marks;
}

std::string drawn_panel(const PlotPanel& panel, double top) {
  const Frame frame{axis_of(panel, &PlotPoint::x, false),
                    axis_of(panel, &PlotPoint::y, panel.logarithmic), top};
  std::string svg = drawn_axes(panel, frame);
  for (size_t index = 0; index < panel.series.size(); ++index) {
    const std::string colour = kColours[index % std::size(kColours)];
    svg += drawn_series(panel, panel.series[index], frame, colour);
    const double y = frame.top + kTop + 16 + 18 * static_cast<double>(index);
    svg +=
        text_at(frame.right() - 8, y, "end", panel.series[index].name, " fill=\"" + colour + "\"");
  }
  return svg;
}

}  // namespace

std::string svg_plot(const std::vector<PlotPanel>& panels) {
  const std::string width = number(kWidth);
  const std::string height = number(kHeight * static_cast<double>(panels.size()));
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" +
                    height + "\" viewBox=\"0 0 " + width + " " + height +
                    "\" font-family=\"sans-serif\" font-size=\"12\">\n" +
                    "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  for (size_t index = 0; index < panels.size(); ++index) {
    svg += drawn_panel(panels[index], kHeight * static_cast<double>(index));
  }
  return svg + "</svg>\n";
}

}  // namespace halftone
