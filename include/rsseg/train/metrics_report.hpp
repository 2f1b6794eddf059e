// SPDX-License-Identifier: MIT
// Scores as a text table for the terminal and as JSON for machines.
#pragma once
#include <string>
#include <vector>

#include "rsseg/io/detail/linkage.hpp"
#include "rsseg/train/metrics.hpp"
#include "rsseg/train/metrics_boundary.hpp"

namespace rsseg::train {

/// A table: one line per class (IoU, F1, precision, recall, share of labels), then the means, then which classes were left out of them.
/// names may be short or empty ("class 3" then). `boundary` adds a column, if given.
std::string scores_table(const segmentation_scores& scores, const std::vector<std::string>& names, const boundary_f1* boundary = nullptr);
/// One JSON object: mean_iou, pixel_accuracy, ..., classes: [{name, iou, ...}], confusion: [[...]] (rows: labels). NaN becomes null.
/// indent < 0: one line.
std::string scores_json(const confusion_matrix& matrix, const std::vector<std::string>& names, const boundary_f1* boundary = nullptr,
                        int indent = -1);
/// names[k], or "class k".
std::string class_name(const std::vector<std::string>& names, int k);

}  // namespace rsseg::train

#if RSSEG_IO_BODIES
#include "rsseg/train/detail/metrics_report_impl.hpp"
#endif
