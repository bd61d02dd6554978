#include "report/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace halftone {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

PlotPanel panel() {
  return {"Loss & bits",
          "effective <bits>",
          "loss",
          true,
          {{"frontier", {{4.5, 1e-1, ""}, {6, 1e-3, ""}, {8, 1e-5, ""}}, true},
           {"chosen", {{4.8, 3e-2, "4.8"}}, false}}};
}

TEST(Plot, DrawsEveryPoint) {
  const std::string svg = svg_plot({panel(), panel()});
  EXPECT_EQ(count_of(svg, "<circle"), 8u);
  EXPECT_EQ(count_of(svg, "<polyline"), 2u);
  EXPECT_THAT(svg, HasSubstr("viewBox=\"0 0 720 800\""));
  EXPECT_THAT(svg, HasSubstr("Loss &amp; bits"));
  EXPECT_THAT(svg, HasSubstr("effective &lt;bits&gt;"));
  EXPECT_THAT(svg, HasSubstr(">0.001<"));
  EXPECT_EQ(svg, svg_plot({panel(), panel()}));
}

TEST(Plot, LeavesOutWhatHasNoPlace) {
  PlotPanel odd = panel();
  odd.series[1].points = {
      {5, 0, "zero"}, {5, -1, "below"}, {std::numeric_limits<double>::quiet_NaN(), 1, "nan"}};
  const std::string svg = svg_plot({odd});
  EXPECT_EQ(count_of(svg, "<circle"), 3u);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(Plot, OnePointAndNone) {
  PlotPanel single = panel();
  single.series = {{"one", {{4, 2, ""}}, false}};
  EXPECT_EQ(count_of(svg_plot({single}), "<circle"), 1u);
  single.series.clear();
  EXPECT_THAT(svg_plot({single}), Not(HasSubstr("nan")));
  EXPECT_THAT(svg_plot({}), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace halftone
