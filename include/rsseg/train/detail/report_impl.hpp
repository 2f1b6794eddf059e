// SPDX-License-Identifier: MIT
// Bodies of train/report.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/train/report.hpp"

namespace rsseg::train {
namespace detail {
RSSEG_IO_INLINE std::string hex_color(io::rgb c) {
  char text[8];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", c.r, c.g, c.b);
  return text;
}
RSSEG_IO_INLINE std::string share_text(double v) {
  if (std::isnan(v)) return "–";
  char text[16];
  std::snprintf(text, sizeof text, "%.3f", v);
  return text;
}

inline constexpr const char* report_style = R"(<style>
:root{color-scheme:light dark;--bg:#fff;--fg:#222;--soft:#667;--line:#d8dbe0;--card:#f6f7f9}
@media(prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#e2e4e8;--soft:#9aa;--line:#363a42;--card:#1f2228}}
body{margin:0 auto;max-width:1080px;padding:28px 20px 60px;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px;padding-bottom:4px;border-bottom:1px solid var(--line)}
p.lead{color:var(--soft);margin:0 0 18px}table{border-collapse:collapse}td,th{padding:4px 14px 4px 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}th{font-weight:600}.num td,.num th{text-align:right;font-variant-numeric:tabular-nums}
.num td:first-child,.num th:first-child{text-align:left}.facts td:first-child{color:var(--soft);white-space:nowrap}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:0 0 20px}.card{background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:10px 16px;min-width:110px}.card b{display:block;font-size:22px;font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(460px,100%),1fr));gap:14px;align-items:start}.charts svg{width:100%}figure{margin:0 0 22px}figure img{max-width:100%;
border:1px solid var(--line);border-radius:4px;display:block}figcaption{color:var(--soft);font-size:13px;margin-top:5px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 14px;padding:0;list-style:none}.legend i,td i{display:inline-block;width:12px;
height:12px;border-radius:2px;margin-right:7px;border:1px solid #8888;vertical-align:-1px}footer{margin-top:40px;color:var(--soft);font-size:13px}
</style>)";

RSSEG_IO_INLINE std::string curve_charts(const training_curves& c) {
  std::string out;
  if (c.loss.empty() && c.mean_iou.empty()) return out;
  out += "<h2>Training</h2>\n<div class=\"charts\">\n";
  chart_options o;
  o.width = 520, o.height = 300, o.x_label = "step";
  if (!c.loss.empty()) {
    o.title = "Loss", o.y_label = "";
    std::vector<chart_series> series;
    if (c.loss.size() > 60) {
      chart_series raw{"each step", c.steps, c.loss};
      raw.faint = true;
      series.push_back(raw);
      series.push_back({"training (smoothed)", c.steps, smoothed(c.loss, double(c.loss.size()) / 100)});
    } else {
      series.push_back({"training", c.steps, c.loss});
    }
    if (!c.validation_loss.empty()) {
      chart_series held{"validation", c.validation_steps, c.validation_loss};
      held.markers = held.x.size() <= 60;
      series.push_back(held);
    }
    o.from_zero = true;
    out += line_chart(o, series);
  }
  if (!c.mean_iou.empty()) {
    o.title = "Validation mIoU", o.from_zero = false;
    chart_series s{"mIoU", c.validation_steps, c.mean_iou};
    s.markers = s.x.size() <= 60, s.color = "#228833";
    out += line_chart(o, {s});
  }
  if (!c.learning_rate.empty()) {
    o.title = "Learning rate", o.from_zero = true, o.height = 220;
    chart_series s{"learning rate", c.steps, c.learning_rate};
    s.color = "#aa3377";
    out += line_chart(o, {s});
  }
  return out + "</div>\n";
}

RSSEG_IO_INLINE std::string score_section(const report& r) {
  const confusion_matrix& m = *r.matrix;
  const segmentation_scores s = m.scores();
  const std::vector<std::string>& names = r.colors.names;
  std::string out = "<h2>Scores</h2>\n<div class=\"cards\">";
  const auto card = [&](const char* what, double v) {
    out += std::string("<div class=\"card\"><b>") + share_text(v) + "</b><span>" + what + "</span></div>";
  };
  card("mean IoU", s.mean_iou), card("pixel accuracy", s.pixel_accuracy), card("mean F1", s.mean_f1), card("mean accuracy", s.mean_accuracy);
  card("weighted IoU", s.frequency_iou), card("kappa", s.kappa);
  if (r.boundary) card("boundary F1", r.boundary->mean());
  out += "</div>\n<div class=\"charts\">\n";
  chart_options o;
  o.title = "IoU per class", o.width = 520;
  std::vector<chart_bar> bars;
  for (int k = 0; k < m.classes(); ++k) {
    const double v = s.classes[std::size_t(k)].iou;
    bars.push_back({class_name(names, k), v, hex_color(r.colors.color(k)), std::isnan(v) ? "absent" : share_text(v), ""});
  }
  out += bar_chart(o, bars);
  if (m.classes() <= 40) {
    chart_options h;
    h.title = "Confusion, each row adds up to 100 %", h.width = 520, h.x_label = "predicted", h.y_label = "labelled";
    std::vector<std::string> heads, texts;
    std::vector<double> values;
    for (int l = 0; l < m.classes(); ++l) {
      heads.push_back(class_name(names, l));
      const double total = double(s.classes[std::size_t(l)].label_pixels);
      for (int p = 0; p < m.classes(); ++p) {
        const double v = total > 0 ? double(m(l, p)) / total : 0;
        values.push_back(v);
        char text[16];
        std::snprintf(text, sizeof text, v > 0 && v < 0.0995 ? "%.1f" : "%.0f", 100 * v);
        texts.push_back(total > 0 ? text : "–");
      }
    }
    out += heat_map(h, heads, heads, values, texts);
  }
  out += "</div>\n<table class=\"num\"><tr><th>class</th><th>IoU</th><th>F1</th><th>precision</th><th>recall</th>";
  out += std::string(r.boundary ? "<th>boundary F1</th>" : "") + "<th>share of labels</th></tr>\n";
  for (int k = 0; k < m.classes(); ++k) {
    const class_scores& c = s.classes[std::size_t(k)];
    out += "<tr><td><i style=\"background:" + hex_color(r.colors.color(k)) + "\"></i>" + xml_text(class_name(names, k)) + "</td>";
    for (const double v : {c.iou, c.f1, c.precision, c.recall}) out += "<td>" + share_text(v) + "</td>";
    if (r.boundary) out += "<td>" + share_text(r.boundary->class_mean(k)) + "</td>";
    out += "<td>" + share_text(ratio(double(c.label_pixels), double(s.counted))) + "</td></tr>\n";
  }
  out += "</table>\n<p>" + std::to_string(s.counted) + " pixels counted, " + std::to_string(s.ignored) + " without a label.";
  if (!s.absent.empty()) {
    out += " Neither labelled nor predicted, and so in no mean:";
    for (const int k : s.absent) out += (k == s.absent.front() ? " " : ", ") + xml_text(class_name(names, k));
    out += ".";
  }
  return out + "</p>\n";
}
}  // namespace detail

RSSEG_IO_INLINE std::string base64(const std::vector<std::uint8_t>& bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = bytes.size() - i;
    const std::uint32_t v = std::uint32_t(bytes[i]) << 16 | (left > 1 ? std::uint32_t(bytes[i + 1]) << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
    out += digits[v >> 18];
    out += digits[v >> 12 & 63];
    out += left > 1 ? digits[v >> 6 & 63] : '=';
    out += left > 2 ? digits[v & 63] : '=';
  }
  return out;
}

RSSEG_IO_INLINE io::image8 shrunk(const io::image8& picture, int max_side) {
  const int factor = std::max(1, (std::max(picture.width, picture.height) + max_side - 1) / std::max(max_side, 1));
  if (factor == 1) return picture;
  io::image8 out((picture.width + factor - 1) / factor, (picture.height + factor - 1) / factor, picture.channels);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x)
      for (int c = 0; c < out.channels; ++c) {
        const int right = std::min(picture.width, (x + 1) * factor), bottom = std::min(picture.height, (y + 1) * factor);
        std::int64_t sum = 0, count = 0;
        for (int v = y * factor; v < bottom; ++v)
          for (int u = x * factor; u < right; ++u) sum += picture.at(u, v, c), ++count;
        out.at(x, y, c) = std::uint8_t((sum + count / 2) / count);
      }
  return out;
}

RSSEG_IO_INLINE std::string report_html(const report& r) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n<title>" +
      xml_text(r.title) + "</title>\n" + detail::report_style + "</head><body>\n<h1>" + xml_text(r.title) + "</h1>\n";
  if (!r.summary.empty()) out += "<p class=\"lead\">" + xml_text(r.summary) + "</p>\n";
  if (!r.facts.empty()) {
    out += "<table class=\"facts\">\n";
    for (const auto& [name, value] : r.facts) out += "<tr><td>" + xml_text(name) + "</td><td>" + xml_text(value) + "</td></tr>\n";
    out += "</table>\n";
  }
  if (r.matrix) out += detail::score_section(r);
  out += detail::curve_charts(r.curves);
  if (!r.pictures.empty()) {
    out += "<h2>Pictures</h2>\n<ul class=\"legend\">";
    for (int k = 0; k < r.colors.count(); ++k)
      out += "<li><i style=\"background:" + detail::hex_color(r.colors.color(k)) + "\"></i>" + xml_text(class_name(r.colors.names, k)) + "</li>";
    out += "</ul>\n";
    for (const report_picture& p : r.pictures)
      out += "<figure><img alt=\"" + xml_text(p.caption) + "\" src=\"data:image/png;base64," + base64(io::encode_png(shrunk(p.picture, r.max_side))) +
             "\"><figcaption>" + xml_text(p.caption) + "</figcaption></figure>\n";
  }
  if (!r.notes.empty()) out += "<h2>Notes</h2>\n";
  for (const std::string& note : r.notes) out += "<p>" + xml_text(note) + "</p>\n";
  return out + "<footer>Written by rsseg.</footer>\n</body></html>\n";
}

RSSEG_IO_INLINE void write_report(const std::string& path, const report& content) { io::write_file(path, report_html(content)); }

}  // namespace rsseg::train
