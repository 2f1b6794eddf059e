// SPDX-License-Identifier: MIT
// Bodies of train/chart.hpp: axes and the four kinds of chart.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>

#include "rsseg/train/chart.hpp"

namespace rsseg::train {
namespace detail {

/// Tol's "bright" scheme: distinct to colour-blind readers, legible on white and on black.
inline constexpr const char* chart_colors[] = {"#4477aa", "#ee6677", "#228833", "#ccaa33", "#66ccee", "#aa3377", "#999999"};

inline constexpr const char* chart_style =
    "<style>.rc{font:12px system-ui,sans-serif}.rc text{fill:#333}.rc .t{font-weight:600;font-size:14px}.rc .g{stroke:#8884;stroke-width:1}"
    ".rc .a{stroke:#888;stroke-width:1}.rc .s{fill:#777;font-size:11px}.rc .n{fill:#fff}.rc .d{fill:#222}"
    "@media(prefers-color-scheme:dark){.rc text{fill:#ddd}.rc .s{fill:#aaa}.rc .n{fill:#fff}.rc .d{fill:#222}}</style>";

/// Coordinates need no more than a tenth of a pixel.
RSSEG_IO_INLINE std::string coordinate(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", v);
  std::string out = text;
  if (out.size() > 2 && out.compare(out.size() - 2, 2, ".0") == 0) out.resize(out.size() - 2);
  return out == "-0" ? "0" : out;
}

/// Width of 12-pixel sans-serif text, near enough for layout.
RSSEG_IO_INLINE double text_width(const std::string& text, double size = 12) {
  int letters = 0;
  for (const char c : text) letters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return 0.58 * size * letters;
}

RSSEG_IO_INLINE std::string svg_text(double x, double y, const std::string& text, const char* anchor = "start", const char* kind = "",
                                     const std::string& extra = "") {
  return "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\"" + (*anchor == 's' ? "" : std::string(" text-anchor=\"") + anchor + "\"") +
         (*kind ? std::string(" class=\"") + kind + "\"" : "") + extra + ">" + xml_text(text) + "</text>";
}
RSSEG_IO_INLINE std::string svg_line(double x1, double y1, double x2, double y2, const char* kind) {
  return "<line x1=\"" + coordinate(x1) + "\" y1=\"" + coordinate(y1) + "\" x2=\"" + coordinate(x2) + "\" y2=\"" + coordinate(y2) + "\" class=\"" +
         kind + "\"/>";
}
RSSEG_IO_INLINE std::string svg_open(int width, int height, const std::string& title) {
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rc\" viewBox=\"0 0 " + std::to_string(width) + " " + std::to_string(height) +
         "\" width=\"" + std::to_string(width) + "\" height=\"" + std::to_string(height) + "\" role=\"img\" style=\"max-width:100%;height:auto\">" +
         chart_style + "<title>" + xml_text(title) + "</title>";
}

/// Maps values to pixels and knows its ticks.
struct axis {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  double from = 0, to = 1;  // pixels
  bool logarithmic = false;
  std::vector<double> ticks;

  bool takes(double v) const { return std::isfinite(v) && (!logarithmic || v > 0); }
  void include(double v) {
    if (takes(v)) low = std::min(low, v), high = std::max(high, v);
  }
  bool empty() const { return !(low <= high); }
  double place(double v) const {
    const double t = logarithmic ? (std::log10(v) - std::log10(low)) / (std::log10(high) - std::log10(low)) : (v - low) / (high - low);
    return from + t * (to - from);
  }
  /// Chooses about `wanted` round ticks; widen: the ends move out to ticks.
  void finish(int wanted, bool widen) {
    if (empty()) low = logarithmic ? 1 : 0, high = logarithmic ? 10 : 1;
    if (logarithmic) {
      int first = int(std::floor(std::log10(low) + 1e-9)), last = int(std::ceil(std::log10(high) - 1e-9));
      if (first == last) ++last;
      if (widen) low = std::pow(10.0, first), high = std::pow(10.0, last);
      if (low == high) low /= 2, high *= 2;
      const int every = std::max(1, (last - first + wanted - 1) / wanted);
      const bool between = last - first <= 2;
      for (int e = first; e <= last; e += every)
        for (const double m : {1.0, 2.0, 5.0}) {
          const double v = m * std::pow(10.0, e);
          if ((m == 1.0 || between) && v >= low * 0.999 && v <= high * 1.001) ticks.push_back(v);
        }
      return;
    }
    if (low == high) {
      const double pad = low == 0 ? 1 : std::abs(low) * 0.1;
      low -= pad, high += pad;
    }
    const double raw = (high - low) / std::max(wanted, 1), magnitude = std::pow(10.0, std::floor(std::log10(raw))), lead = raw / magnitude;
    const double step = magnitude * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
    if (widen) low = std::floor(low / step + 1e-9) * step, high = std::ceil(high / step - 1e-9) * step;
    for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) ticks.push_back(i * step + 0.0);
  }
  double widest(const std::string& unit) const {
    double w = 0;
    for (const double t : ticks) w = std::max(w, text_width(number_text(t) + unit, 11));
    return w;
  }
};

/// The frame of line and scatter charts.
struct frame {
  axis x, y, right;
  bool has_right = false;
  double left = 0, top = 0, width = 0, height = 0;

  std::string draw(const chart_options& o, const std::vector<std::pair<std::string, std::string>>& legend, bool widen_x) {
    x.logarithmic = o.log_x, y.logarithmic = o.log_y;
    if (o.from_zero && !o.log_y) y.include(0);
    x.finish(std::max(2, o.width / 110), widen_x);
    y.finish(std::max(2, o.height / 55), true);
    if (has_right) right.finish(std::max(2, o.height / 55), true);
    std::string out;
    top = o.title.empty() ? 10 : 30;
    if (!o.title.empty()) out += svg_text(12, 19, o.title, "start", "t");
    double at = 12;  // the legend: a line of its own under the title, wrapped
    if (legend.size() > 1)
      for (std::size_t i = 0; i < legend.size(); ++i) {
        const double need = 22 + text_width(legend[i].first) + 16;
        if (at > 12 && at + need > o.width - 12) at = 12, top += 18;
        out += "<rect x=\"" + coordinate(at) + "\" y=\"" + coordinate(top - 1) + "\" width=\"14\" height=\"4\" rx=\"2\" fill=\"" + legend[i].second +
               "\"/>" + svg_text(at + 20, top + 5, legend[i].first);
        at += need;
        if (i + 1 == legend.size()) top += 18;
      }
    left = 14 + y.widest(o.y_unit) + (o.y_label.empty() ? 4 : 22);
    const double right_room = has_right ? 14 + right.widest("") + (o.right_label.empty() ? 4 : 20) : 18;
    width = o.width - left - right_room;
    height = o.height - top - (o.x_label.empty() ? 26 : 44);
    x.from = left, x.to = left + width;
    y.from = right.from = top + height, y.to = right.to = top;
    for (const double t : y.ticks)
      out += svg_line(left, y.place(t), left + width, y.place(t), "g") + svg_text(left - 7, y.place(t) + 4, number_text(t) + o.y_unit, "end", "s");
    if (has_right)
      for (const double t : right.ticks) out += svg_text(left + width + 7, right.place(t) + 4, number_text(t), "start", "s");
    for (const double t : x.ticks)
      out += svg_line(x.place(t), top + height, x.place(t), top + height + 4, "a") +
             svg_text(x.place(t), top + height + 17, number_text(t) + o.x_unit, "middle", "s");
    out += svg_line(left, top + height, left + width, top + height, "a");
    if (!o.x_label.empty()) out += svg_text(left + width / 2, o.height - 8, o.x_label, "middle");
    const auto upright = [&](double cx, const std::string& text, double angle) {
      const double cy = top + height / 2;
      out += svg_text(cx, cy, text, "middle", "", " transform=\"rotate(" + coordinate(angle) + " " + coordinate(cx) + " " + coordinate(cy) + ")\"");
    };
    if (!o.y_label.empty()) upright(16, o.y_label, -90);
    if (has_right && !o.right_label.empty()) upright(o.width - 10, o.right_label, 90);
    return out;
  }
};

/// At most two points (lowest, highest) per column of pixels, in order.
RSSEG_IO_INLINE chart_series thinned(const chart_series& s, std::size_t columns) {
  if (s.x.size() <= 2000) return s;
  chart_series out = s;
  out.x.clear(), out.y.clear();
  const std::size_t n = s.x.size();
  for (std::size_t c = 0; c < columns; ++c) {
    std::size_t low = n, high = n;
    for (std::size_t i = c * n / columns; i < (c + 1) * n / columns; ++i) {
      if (std::isnan(s.y[i])) continue;
      if (low == n || s.y[i] < s.y[low]) low = i;
      if (high == n || s.y[i] > s.y[high]) high = i;
    }
    if (low == n) continue;
    for (const std::size_t i : {std::min(low, high), std::max(low, high)}) {
      out.x.push_back(s.x[i]), out.y.push_back(s.y[i]);
      if (low == high) break;
    }
  }
  return out;
}
}  // namespace detail

RSSEG_IO_INLINE std::string number_text(double v) {
  if (!std::isfinite(v)) return "-";
  const double size = std::abs(v);
  const char* unit = "";
  if (size >= 1e9)
    v /= 1e9, unit = "G";
  else if (size >= 1e6)
    v /= 1e6, unit = "M";
  else if (size >= 1e4)
    v /= 1e3, unit = "k";
  char text[40];
  std::snprintf(text, sizeof text, "%.4g", v);
  return std::string(text) + unit;
}

RSSEG_IO_INLINE std::string xml_text(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) {
      switch (c) {
        case '&':
          out += "&amp;";
          break;
        case '<':
          out += "&lt;";
          break;
        case '>':
          out += "&gt;";
          break;
        case '"':
          out += "&quot;";
          break;
        case '\'':
          out += "&#39;";
          break;
        default:
          if (c >= 32 && c != 127)
            out += char(c);
          else if (c == '\n' || c == '\t')
            out += ' ';
      }
      continue;
    }
    const std::size_t extra = c >= 0xC2 && c < 0xE0 ? 1 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xF0 && c < 0xF5 ? 3 : 0;
    bool good = extra > 0 && i + extra < text.size();
    for (std::size_t k = 1; good && k <= extra; ++k) good = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
    if (!good) continue;
    out.append(text, i, extra + 1);
    i += extra;
  }
  return out;
}

RSSEG_IO_INLINE std::vector<double> smoothed(const std::vector<double>& values, double half_life) {
  std::vector<double> out = values;
  const double keep = half_life > 0 ? std::pow(0.5, 1.0 / half_life) : 0;
  double sum = 0, weight = 0;  // divided by the weights so far: no pull towards zero at the start
  for (double& v : out) {
    if (std::isfinite(v)) sum = keep * sum + (1 - keep) * v, weight = keep * weight + (1 - keep);
    if (weight > 0) v = sum / weight;
  }
  return out;
}

RSSEG_IO_INLINE std::string line_chart(const chart_options& o, const std::vector<chart_series>& all) {
  detail::frame f;
  std::vector<std::pair<std::string, std::string>> legend;
  std::vector<std::string> colors;
  std::size_t next = 0;
  for (const chart_series& s : all) {
    if (s.x.size() != s.y.size()) throw usage_error("chart series '" + s.name + "': as many x as y values expected");
    // A smoothed line takes the colour of the faint one under it.
    const bool pair = !colors.empty() && all[colors.size() - 1].faint && s.color.empty();
    colors.push_back(!s.color.empty() ? s.color : pair ? colors.back() : detail::chart_colors[next++ % 7]);
    if (!s.faint) legend.emplace_back(s.name, colors.back());
    f.has_right = f.has_right || s.right_axis;
  }
  f.x.logarithmic = o.log_x, f.y.logarithmic = o.log_y;
  for (const chart_series& s : all)
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!f.x.takes(s.x[i]) || std::isnan(s.y[i])) continue;
      f.x.include(s.x[i]);
      (s.right_axis ? f.right : f.y).include(s.y[i]);
    }
  std::string out = detail::svg_open(o.width, o.height, o.title) + f.draw(o, legend, false);
  for (std::size_t k = 0; k < all.size(); ++k) {
    const chart_series s = detail::thinned(all[k], std::size_t(std::max(1.0, f.width)));
    const detail::axis& vertical = s.right_axis ? f.right : f.y;
    std::string path, dots;
    bool down = false;
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!f.x.takes(s.x[i]) || !vertical.takes(s.y[i])) {
        down = false;
        continue;
      }
      const std::string px = detail::coordinate(f.x.place(s.x[i])), py = detail::coordinate(vertical.place(s.y[i]));
      path += (down ? "L" : "M") + px + " " + py;
      down = true;
      if (s.markers) dots += "<circle cx=\"" + px + "\" cy=\"" + py + "\" r=\"3\" fill=\"" + colors[k] + "\"/>";
    }
    out += "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + colors[k] + "\" stroke-linejoin=\"round\" stroke-width=\"" +
           (s.faint ? "1\" stroke-opacity=\"0.35" : "2") + "\"/>" + dots;
  }
  return out + "</svg>\n";
}

RSSEG_IO_INLINE std::string bar_chart(const chart_options& o, const std::vector<chart_bar>& bars) {
  detail::axis x;
  x.logarithmic = o.log_x;
  if (!o.log_x) x.include(0);
  double names = 0, texts = 0, lines = 0;
  const auto text_of = [&](const chart_bar& b) {
    return !b.text.empty() ? b.text : std::isnan(b.value) ? std::string("absent") : number_text(b.value) + o.x_unit;
  };
  for (std::size_t i = 0; i < bars.size(); ++i) {
    x.include(bars[i].value);
    names = std::max(names, detail::text_width(bars[i].name)), texts = std::max(texts, detail::text_width(text_of(bars[i]), 11));
    lines += 24;
    if (!bars[i].group.empty() && (i == 0 || bars[i - 1].group != bars[i].group)) lines += 24;
  }
  x.finish(std::max(2, o.width / 130), true);
  const double left = std::min(24 + names, 0.5 * o.width), top = o.title.empty() ? 8 : 34;
  const double right = o.width - texts - 22, bottom = top + lines;
  const int height = int(bottom) + (o.x_label.empty() ? 28 : 46);
  x.from = left, x.to = right;
  std::string out = detail::svg_open(o.width, height, o.title);
  if (!o.title.empty()) out += detail::svg_text(12, 19, o.title, "start", "t");
  for (const double t : x.ticks)
    out += detail::svg_line(x.place(t), top, x.place(t), bottom, "g") +
           detail::svg_text(x.place(t), bottom + 16, number_text(t) + o.x_unit, "middle", "s");
  const double zero = o.log_x ? left : x.place(0);
  double y = top;
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const chart_bar& b = bars[i];
    if (!b.group.empty() && (i == 0 || bars[i - 1].group != b.group)) {
      out += detail::svg_text(12, y + 17, b.group, "start", "", " font-weight=\"600\"");
      y += 24;
    }
    out += detail::svg_text(left - 8, y + 16, b.name, "end");
    double end = zero;
    if (x.takes(b.value)) {
      end = x.place(b.value);
      out += "<rect x=\"" + detail::coordinate(std::min(zero, end)) + "\" y=\"" + detail::coordinate(y + 4) + "\" width=\"" +
             detail::coordinate(std::max(std::abs(end - zero), 1.0)) + "\" height=\"16\" rx=\"2\" fill=\"" +
             (b.color.empty() ? detail::chart_colors[0] : b.color) + "\" stroke=\"#8888\" stroke-width=\"0.5\"/>";
    }
    out += detail::svg_text(std::max(end, zero) + 6, y + 16, text_of(b), "start", "s");
    y += 24;
  }
  out += detail::svg_line(zero, top, zero, bottom, "a");
  if (!o.x_label.empty()) out += detail::svg_text((left + right) / 2, height - 8, o.x_label, "middle");
  return out + "</svg>\n";
}

RSSEG_IO_INLINE std::string scatter_chart(const chart_options& o, const std::vector<chart_point>& points) {
  detail::frame f;
  std::vector<std::pair<std::string, std::string>> legend;
  f.x.logarithmic = o.log_x, f.y.logarithmic = o.log_y;
  const auto color = [&](const std::string& group) {
    for (const auto& entry : legend)
      if (entry.first == group) return entry.second;
    legend.emplace_back(group, detail::chart_colors[legend.size() % 7]);
    return legend.back().second;
  };
  for (const chart_point& p : points) {
    color(p.group);
    if (f.x.takes(p.x) && f.y.takes(p.y)) f.x.include(p.x), f.y.include(p.y);
  }
  std::string out = detail::svg_open(o.width, o.height, o.title) + f.draw(o, legend, true);
  struct box {
    double x, y, w, h;
  };
  std::vector<box> taken;
  for (const chart_point& p : points)
    if (f.x.takes(p.x) && f.y.takes(p.y)) taken.push_back({f.x.place(p.x) - 5, f.y.place(p.y) - 5, 10, 10});
  for (const chart_point& p : points) {
    if (!f.x.takes(p.x) || !f.y.takes(p.y)) continue;
    const double px = f.x.place(p.x), py = f.y.place(p.y), w = detail::text_width(p.label, 11), h = 12;
    out += "<circle cx=\"" + detail::coordinate(px) + "\" cy=\"" + detail::coordinate(py) + "\" r=\"5\" fill=\"" + color(p.group) +
           "\" stroke=\"#8888\"/>";
    if (p.label.empty()) continue;
    box best{};
    bool apart = false;
    double least = std::numeric_limits<double>::infinity();
    const box tries[] = {{px + 9, py - 6, w, h},  {px - 9 - w, py - 6, w, h},  {px - w / 2, py - 20, w, h}, {px - w / 2, py + 9, w, h},
                         {px + 6, py - 18, w, h}, {px - 6 - w, py - 18, w, h}, {px + 6, py + 7, w, h},      {px - 6 - w, py + 7, w, h},
                         {px + 9, py - 30, w, h}, {px + 9, py + 19, w, h},     {px - 9 - w, py - 30, w, h}, {px - 9 - w, py + 19, w, h}};
    for (const box& b : tries) {
      double cost = 0.01 * double(&b - tries);
      for (const box& t : taken) {
        const double dx = std::min(b.x + b.w, t.x + t.w) - std::max(b.x, t.x), dy = std::min(b.y + b.h, t.y + t.h) - std::max(b.y, t.y);
        if (dx > 0 && dy > 0) cost += dx * dy;
      }
      if (b.x < f.left || b.x + b.w > o.width - 4) cost += 1000;
      if (b.y < f.top - 8 || b.y + b.h > f.top + f.height) cost += 500;
      if (cost < least) least = cost, best = b, apart = &b - tries >= 4;
    }
    taken.push_back(best);
    // A label that could not sit right beside its point is tied to it.
    if (apart) out += detail::svg_line(px, py, std::clamp(px, best.x, best.x + best.w), std::clamp(py, best.y, best.y + best.h), "a");
    out += detail::svg_text(best.x, best.y + 10, p.label, "start", "s");
  }
  return out + "</svg>\n";
}

RSSEG_IO_INLINE std::string heat_map(const chart_options& o, const std::vector<std::string>& rows, const std::vector<std::string>& columns,
                                     const std::vector<double>& values, const std::vector<std::string>& texts) {
  if (values.size() != rows.size() * columns.size() || (!texts.empty() && texts.size() != values.size()))
    throw usage_error("heat map '" + o.title + "': one value (and text) per cell expected");
  double names = 0, heads = 0, largest = 0;
  for (const std::string& r : rows) names = std::max(names, detail::text_width(r));
  for (const std::string& c : columns) heads = std::max(heads, detail::text_width(c));
  for (const double v : values)
    if (std::isfinite(v)) largest = std::max(largest, v);
  const double left = 16 + names + (o.y_label.empty() ? 0 : 20);
  const double cell = std::clamp((o.width - left - 16) / std::max<double>(1, double(columns.size())), 8.0, 72.0), tall = std::min(cell, 40.0);
  const bool slanted = heads > cell - 6;
  const double above = slanted ? std::min(heads, 140.0) * 0.72 + 14 : 20;
  const double top = (o.title.empty() ? 6 : 30) + (o.x_label.empty() ? 0 : 18) + above;
  const int height = int(top + tall * double(rows.size()) + 12);
  std::string out = detail::svg_open(o.width, height, o.title);
  if (!o.title.empty()) out += detail::svg_text(12, 19, o.title, "start", "t");
  const double wide = cell * double(columns.size()), low = tall * double(rows.size());
  if (!o.x_label.empty()) out += detail::svg_text(left + wide / 2, o.title.empty() ? 16 : 44, o.x_label, "middle");
  if (!o.y_label.empty())
    out += detail::svg_text(15, top + low / 2, o.y_label, "middle", "", " transform=\"rotate(-90 15 " + detail::coordinate(top + low / 2) + ")\"");
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const double cx = left + (double(c) + 0.5) * cell;
    out += slanted ? detail::svg_text(cx, top - 8, columns[c], "start", "s",
                                      " transform=\"rotate(-45 " + detail::coordinate(cx) + " " + detail::coordinate(top - 8) + ")\"")
                   : detail::svg_text(cx, top - 7, columns[c], "middle", "s");
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double y = top + double(r) * tall;
    out += detail::svg_text(left - 8, y + tall / 2 + 4, rows[r], "end");
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const double v = values[r * columns.size() + c], t = largest > 0 && std::isfinite(v) ? std::clamp(v / largest, 0.0, 1.0) : 0;
      // From a pale to a dark blue: lightness carries the value, in gray print as well.
      const auto mix = [t](int from, int to) { return int(std::lround(from + t * (to - from))); };
      char fill[8];
      std::snprintf(fill, sizeof fill, "#%02x%02x%02x", mix(0xf0, 0x1d), mix(0xf4, 0x3f), mix(0xf8, 0x72));
      out += "<rect x=\"" + detail::coordinate(left + double(c) * cell) + "\" y=\"" + detail::coordinate(y) + "\" width=\"" +
             detail::coordinate(cell - 1) + "\" height=\"" + detail::coordinate(tall - 1) + "\" fill=\"" + fill + "\"/>";
      if (!texts.empty() && cell >= 26)
        out += detail::svg_text(left + (double(c) + 0.5) * cell, y + tall / 2 + 4, texts[r * columns.size() + c], "middle", t > 0.5 ? "n" : "d",
                                " font-size=\"" + detail::coordinate(std::clamp(cell / 4.2, 8.0, 12.0)) + "\"");
    }
  }
  return out + "</svg>\n";
}

}  // namespace rsseg::train
