// SPDX-License-Identifier: MIT
// report.html: one file that shows a training run or an evaluation, to be opened in any browser and mailed around. Charts are inline SVG,
// pictures embedded PNG; no scripts, nothing loaded from elsewhere.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/io/image.hpp"
#include "rsseg/io/palette.hpp"
#include "rsseg/train/chart.hpp"
#include "rsseg/train/metrics_report.hpp"

namespace rsseg::train {

/// What the log of a run holds. Each vector as long as its steps; empty ones are not drawn.
struct training_curves {
  std::vector<double> steps, loss, learning_rate;
  std::vector<double> validation_steps, mean_iou, validation_loss;
};

/// A picture with its caption. Larger than report::max_side, it is shrunk.
struct report_picture {
  std::string caption;
  io::image8 picture;
};

struct report {
  std::string title, summary;                              ///< summary: a sentence or two under the title
  std::vector<std::pair<std::string, std::string>> facts;  ///< "network" -> "UNet, 31 037 958 parameters"
  training_curves curves;
  const confusion_matrix* matrix = nullptr;  ///< of the evaluation; nullptr: none was made
  const boundary_f1* boundary = nullptr;
  io::palette colors;  ///< class names and colours, for the charts and the legend
  std::vector<report_picture> pictures;
  std::vector<std::string> notes;  ///< remarks at the end: paragraphs of plain text
  int max_side = 1200;
};

/// The page. All texts are escaped.
std::string report_html(const report& content);
/// Written atomically. Throws output_error.
void write_report(const std::string& path, const report& content);

/// Shrunk by the smallest whole factor that makes no side longer than `max_side`; each pixel the rounded mean of those under it.
io::image8 shrunk(const io::image8& picture, int max_side);
std::string base64(const std::vector<std::uint8_t>& bytes);

}  // namespace rsseg::train

#if RSSEG_IO_BODIES
#include "rsseg/train/detail/report_impl.hpp"
#endif
