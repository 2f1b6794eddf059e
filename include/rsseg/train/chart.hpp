// SPDX-License-Identifier: MIT
// Charts as self-contained SVG text: line, bar, scatter, heat map. No scripts, no external files; colours that read on white and on
// black (the style follows prefers-color-scheme), so that the same file serves a report, a README and a printed page.
#pragma once
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/io/detail/linkage.hpp"

namespace rsseg::train {

struct chart_options {
  std::string title, x_label, y_label;
  std::string right_label;  ///< of the right axis, when a series uses it
  int width = 720, height = 320;
  bool log_x = false, log_y = false;  ///< values <= 0 are left out then
  bool from_zero = false;             ///< the y axis includes zero
  std::string x_unit, y_unit;         ///< appended to tick labels ("%", " ms")
};

struct chart_series {
  std::string name;
  std::vector<double> x, y;  ///< equally many; NaN makes a gap
  bool right_axis = false;
  bool markers = false;    ///< a dot at each point
  bool faint = false;      ///< thin and pale: raw values under a smoothed line; not in the legend
  std::string color = {};  ///< "#rrggbb"; empty: the next of the chart's own
};
/// Lines over one x axis, with one or two y axes. Series of more than 2000 points are thinned by minimum and maximum per column.
std::string line_chart(const chart_options& options, const std::vector<chart_series>& series);

struct chart_bar {
  std::string name;
  double value = 0;        ///< NaN: no bar, `text` or "absent"
  std::string color = {};  ///< empty: the chart's first
  std::string text = {};   ///< beside the bar; empty: the value
  std::string group = {};  ///< a heading before the first bar of each group
};
/// Horizontal bars, one per line, so that long names fit; the height follows their number. options.x_label names the values.
std::string bar_chart(const chart_options& options, const std::vector<chart_bar>& bars);

struct chart_point {
  double x = 0, y = 0;
  std::string label = {};
  std::string group = {};  ///< one colour and legend entry each
};
/// Points with labels, placed where they cover least.
std::string scatter_chart(const chart_options& options, const std::vector<chart_point>& points);

/// Square cells of `values` (row major, rows.size() x columns.size()), darker = larger, range [0, largest]; texts in the cells, if given.
std::string heat_map(const chart_options& options, const std::vector<std::string>& rows, const std::vector<std::string>& columns,
                     const std::vector<double>& values, const std::vector<std::string>& texts = {});

/// Exponential moving average with `half_life` points; NaN is passed over.
std::vector<double> smoothed(const std::vector<double>& values, double half_life);
/// "1 234.5" shortened: 0.001, 12.5, 3.2k, 1.5M.
std::string number_text(double value);
/// &, <, >, quotes as entities; control characters and bytes that are not UTF-8 removed.
std::string xml_text(const std::string& text);

}  // namespace rsseg::train

#if RSSEG_IO_BODIES
#include "rsseg/train/detail/chart_impl.hpp"
#endif
