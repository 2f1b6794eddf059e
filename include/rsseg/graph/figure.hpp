// SPDX-License-Identifier: MIT
// A network's figure as SVG, laid out the way papers draw encoders and decoders: one column per resolution (full resolution on the left,
// global vectors on the right), data flowing downward. So a U-Net is a U, and parallel branches stand side by side.
#pragma once
#include <cmath>

#include "rsseg/graph/draw.hpp"

namespace rsseg::graph {

namespace detail {

inline std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  return out;
}

/// The boxes' places, in units of rows and columns.
struct figure_layout {
  std::vector<int> row, column, slot;  // slot: place among the boxes of one row and column
  std::vector<int> slots;              // of each column
  std::vector<int> column_of_level;    // -1: not used
  int rows = 0;
};

constexpr int figure_levels = 9;  // 1/1 ... 1/128, and vectors

/// Number of halvings from the input to a map; vectors have the last level.
inline int level_of(const shape& map, const shape& image) {
  if (map.h <= 1 && map.w <= 1) return figure_levels - 1;
  const double halvings = std::log2(double(image.h) / std::max(1, map.h));
  return std::clamp(int(std::lround(halvings)), 0, figure_levels - 2);
}

inline figure_layout lay_out(const block_graph& b, const shape& image) {
  figure_layout f;
  const std::size_t count = b.blocks.size();
  f.row.assign(count, 0), f.column.assign(count, 0), f.slot.assign(count, 0), f.column_of_level.assign(figure_levels, -1);
  for (std::size_t i = 0; i < count; ++i)  // edges lead to later boxes
    for (const auto& [from, to] : b.edges)
      if (std::size_t(to) == i) f.row[i] = std::max(f.row[i], f.row[std::size_t(from)] + 1);
  for (std::size_t i = 0; i < count; ++i) f.column_of_level[std::size_t(level_of(b.blocks[i].out, image))] = 0;
  int columns = 0;
  for (int& c : f.column_of_level)
    if (c == 0) c = columns++;
  f.slots.assign(std::size_t(columns), 1);
  std::map<std::pair<int, int>, int> taken;
  for (std::size_t i = 0; i < count; ++i) {
    f.column[i] = f.column_of_level[std::size_t(level_of(b.blocks[i].out, image))];
    f.slot[i] = taken[{f.row[i], f.column[i]}]++;
    f.slots[std::size_t(f.column[i])] = std::max(f.slots[std::size_t(f.column[i])], f.slot[i] + 1);
    f.rows = std::max(f.rows, f.row[i] + 1);
  }
  return f;
}

/// At most `lines` lines of about `width` letters, cut with an ellipsis.
inline std::vector<std::string> wrapped(const std::string& text, std::size_t width, std::size_t lines) {
  std::vector<std::string> out;
  std::string line;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && line.size() + 1 + word.size() > width) out.push_back(line), line.clear();
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  if (!line.empty() || out.empty()) out.push_back(line);
  if (out.size() > lines) out.resize(lines), out.back() += " ...";
  return out;
}

}  // namespace detail

/// The depth at which a figure shows blocks rather than single operators: the first with at least nine boxes, if it has at most 70.
inline int figure_depth(const graph& g, const shape* s) {
  int best = 1;
  for (int depth = 1; depth < 6; ++depth) {
    const std::size_t boxes = blocks_of(g, s, depth).blocks.size();
    if (boxes > 70) break;
    best = depth;
    if (boxes >= 9) break;
  }
  return best;
}

/// The figure. depth: scope components that make a box; 0 chooses.
inline std::string to_svg(const graph& g, const shape* s, const std::string& title, int depth = 0) {
  const block_graph b = blocks_of(g, s, depth > 0 ? depth : figure_depth(g, s));
  shape image{};
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == op::input && s[i].h > image.h) image = s[i];
  const detail::figure_layout f = detail::lay_out(b, image);
  constexpr int box_w = 156, box_h = 54, gap_x = 22, gap_y = 22, top = 64, left = 26;
  std::vector<int> column_x;
  int width = left;
  for (const int slots : f.slots) column_x.push_back(width), width += slots * (box_w + gap_x) + 10;
  width += 4;
  const int height = top + f.rows * (box_h + gap_y) + 6;
  const auto number = [](int v) { return std::to_string(v); };
  const auto x_of = [&](int i) {  // a row with fewer boxes than its column has room for is centred
    int here = 0;
    for (std::size_t k = 0; k < b.blocks.size(); ++k) here += f.row[k] == f.row[std::size_t(i)] && f.column[k] == f.column[std::size_t(i)];
    const int column = f.column[std::size_t(i)], spare = f.slots[std::size_t(column)] - here;
    return column_x[std::size_t(column)] + f.slot[std::size_t(i)] * (box_w + gap_x) + spare * (box_w + gap_x) / 2;
  };
  const auto y_of = [&](int i) { return top + f.row[std::size_t(i)] * (box_h + gap_y); };

  std::string t = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(width) + " " + number(height) + "\" width=\"" + number(width) +
                  "\" height=\"" + number(height) + "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"10\" fill=\"#1d2b38\">\n" +
                  "<defs><marker id=\"a\" markerWidth=\"7\" markerHeight=\"6\" refX=\"6\" refY=\"3\" orient=\"auto\"><path d=\"M0,0L7,3L0,6z\" "
                  "fill=\"#5b7690\"/></marker></defs>\n<rect width=\"" +
                  number(width) + "\" height=\"" + number(height) + "\" fill=\"#ffffff\"/>\n<text x=\"" + number(left) +
                  "\" y=\"24\" font-size=\"16\" font-weight=\"bold\">" + detail::escaped(title) + "</text>\n";
  for (int level = 0; level < detail::figure_levels; ++level) {
    const int column = f.column_of_level[std::size_t(level)];
    if (column < 0) continue;
    const int w = f.slots[std::size_t(column)] * (box_w + gap_x);
    t += "<rect x=\"" + number(column_x[std::size_t(column)] - gap_x / 2) + "\" y=\"36\" width=\"" + number(w) + "\" height=\"" +
         number(height - 40) + "\" fill=\"#f7f9fb\" rx=\"6\"/>\n<text x=\"" + number(column_x[std::size_t(column)] - gap_x / 2 + w / 2) +
         "\" y=\"52\" text-anchor=\"middle\" font-size=\"12\" fill=\"#6a7f92\">" +
         (level == detail::figure_levels - 1 ? std::string("vectors")
          : level == 0                       ? std::string("full size")
                                             : "1/" + number(1 << level)) +
         "</text>\n";
  }
  for (const auto& [from, to] : b.edges) {
    const int x0 = x_of(from) + box_w / 2, y0 = y_of(from) + box_h, x1 = x_of(to) + box_w / 2, y1 = y_of(to) - 2;
    bool blocked = false;  // a box of the same column stands between
    for (std::size_t k = 0; k < b.blocks.size(); ++k)
      blocked = blocked || (x0 == x1 && f.row[k] > f.row[std::size_t(from)] && f.row[k] < f.row[std::size_t(to)] &&
                            std::abs(x_of(int(k)) + box_w / 2 - x0) < box_w);
    std::string path;
    if (blocked) {
      const int edge = x0 - box_w / 2, middle0 = y0 - box_h / 2, middle1 = y1 + box_h / 2;
      path = "M" + number(edge) + "," + number(middle0) + "C" + number(edge - 24) + "," + number(middle0 + 20) + " " + number(edge - 24) + "," +
             number(middle1 - 20) + " " + number(edge - 1) + "," + number(middle1);
    } else {
      const int bend = std::max(12, (y1 - y0) / 2);
      path = "M" + number(x0) + "," + number(y0) + "C" + number(x0) + "," + number(y0 + bend) + " " + number(x1) + "," + number(y1 - bend) + " " +
             number(x1) + "," + number(y1);
    }
    t += "<path d=\"" + path + "\" fill=\"none\" stroke=\"#5b7690\" stroke-width=\"1.2\" marker-end=\"url(#a)\"/>\n";
  }
  for (std::size_t i = 0; i < b.blocks.size(); ++i) {
    const block& k = b.blocks[i];
    const bool source = k.nodes.size() == 1 && g.nodes[k.nodes[0]].kind == op::input;
    bool result = false;
    for (const output& o : g.outputs) result = result || (!o.train_only && std::find(k.nodes.begin(), k.nodes.end(), o.node) != k.nodes.end());
    const char* fill = source ? "#d9ead3" : result ? "#f9d9c0" : k.parameters == 0 ? "#ffffff" : "#e3edf6";
    const int x = x_of(int(i)), y = y_of(int(i));
    const std::string middle = number(x + box_w / 2);
    t += "<g><title>" + detail::escaped(k.name + ": " + k.what) + "</title><rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" +
         number(box_w) + "\" height=\"" + number(box_h) + "\" rx=\"5\" fill=\"" + fill + "\" stroke=\"#44607c\"/>";
    std::vector<std::string> lines = k.what == k.name || source ? std::vector<std::string>{} : detail::wrapped(k.what, 27, 2);
    lines.insert(lines.begin(), detail::wrapped(k.name, 26, 1).front());
    lines.push_back(extent_text(k.out));
    int line_y = y + (box_h - 12 * int(lines.size())) / 2 + 10;
    for (std::size_t l = 0; l < lines.size(); ++l, line_y += 12)
      t += "<text x=\"" + middle + "\" y=\"" + number(line_y) + "\" text-anchor=\"middle\"" + (l == 0 ? " font-weight=\"bold\"" : "") +
           (l + 1 == lines.size() ? " fill=\"#6a7f92\"" : "") + ">" + detail::escaped(lines[l]) + "</text>";
    t += "</g>\n";
  }
  return t + "</svg>\n";
}

}  // namespace rsseg::graph
