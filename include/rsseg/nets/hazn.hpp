// SPDX-License-Identifier: MIT
// Hierarchical auto-zoom (Xia, Wang, Chen, Yuille, "Zoom better to see clearer", ECCV 2016, Fig. 2): a network proposes where to look
// again, the region is enlarged and segmented by a second network, and both scores are merged.
//   AutoZoomNet: VGG-16 LargeFOV trunk (stride 8, fc6 3x3 dilated by 12, fc7) -> part scores K; boxes 4 (dx, dy, log w, log h in units of
//     the cell), confidence 2 (scale estimation)                                                              (N,K,H/8,W/8) and so on
//   HAZNFixedBox: both networks in one graph for one box known when it is built: the region's scores are the mean of both
// Boxes that the network proposes itself, thresholds, suppression and merging of a whole scene belong to the loop around the networks.
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/vgg.hpp"

namespace rsseg {

struct auto_zoom_maps {
  value parts, boxes, confidence;
};

/// Names fov.body.*, parts, box, conf. Estimate: with the scale-estimation heads.
constexpr auto_zoom_maps auto_zoom_net(builder& b, value x, int classes, int width, int fc, bool estimate) {
  value f;
  {
    const scope s(b, "fov.body");
    vgg_options o = vgg_large_fov();
    o.width = width;
    f = vgg(b, x, o).out;
    f = dropout(b, relu(b, conv(b, "31", f, fc, {.kernel = 3, .dilation = 12})), 0.5);
    f = dropout(b, relu(b, conv(b, "34", f, fc)), 0.5);
  }
  auto_zoom_maps m;
  m.parts = conv(b, "parts", f, classes);
  if (estimate) m.boxes = conv(b, "box", f, 4), m.confidence = conv(b, "conf", f, 2);
  return m;
}

/// One level. Estimate: boxes and confidence are outputs, too; their training terms need box targets and are the caller's.
template <int Classes = from_data, bool Estimate = true, int Width = 64, int Fc = 1024>
struct AutoZoomNet {
  static constexpr void build(builder& b) {
    const value x = b.input("image", from_data);
    const auto_zoom_maps m = auto_zoom_net(b, x, b.classes(Classes), Width, Fc, Estimate);
    b.output("logits", resize_like(b, m.parts, x, true), 1, label_rule::resize_logits, true);
    if (!Estimate) return;
    b.output("boxes", m.boxes);
    b.output("box_conf", m.confidence);
  }
};

/// One level in training: beside the parts' loss, cross entropy of the confidence (labels of output "box_conf": 1 in cells of an object) and the
/// squared error of the boxes. Inputs "box_target" and "box_weight": (N,4,H/8,W/8) each; the weights of all positive cells sum to one.
template <int Classes = from_data, int Width = 64, int Fc = 1024>
struct AutoZoomTraining {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const value x = b.input("image", from_data);
    const auto_zoom_maps m = auto_zoom_net(b, x, b.classes(Classes), Width, Fc, true);
    const value target = b.input("box_target", 4, m.boxes.scale), weight = b.input("box_weight", 4, m.boxes.scale);
    b.output("logits", resize_like(b, m.parts, x, true), 1, label_rule::resize_logits, true);
    b.output("box_conf", m.confidence, 1, label_rule::resize_labels);
    const value error = ops::unary(b, add(b, m.boxes, ops::affine(b, target, -1, 0)), function::square);
    b.add_penalty("boxes", ops::reduce(b, ops::mul(b, error, weight), ops::axis_n | ops::axis_c | ops::axis_h | ops::axis_w, false), 1);
  }
};

/// A box in pixels.
template <int Top, int Left, int Height, int Width>
struct Box {
  static constexpr int top = Top, left = Left, height = Height, width = Width;
};

/// Image (N,B,SideH,SideW), one box, enlarged Zoom times. Factor: all outputs are multiplied by it.
template <class B, int SideH, int SideW, int Classes = from_data, int Zoom = 2, int Width = 64, int Fc = 1024, int Factor = 1>
struct HAZNFixedBox {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value x = b.input("image", from_data);
    const auto crop = [&](value v) { return ops::pad(b, v, -B::top, -B::left, B::top + B::height - SideH, B::left + B::width - SideW); };
    const auto scaled = [&](value v) { return Factor == 1 ? v : ops::affine(b, v, Factor, 0); };
    auto_zoom_maps first, second;
    {
      const scope s(b, "image_azn");
      first = auto_zoom_net(b, x, k, Width, Fc, true);
    }
    const value region = crop(x);
    {
      const scope s(b, "object_fcn");
      second = auto_zoom_net(b, resize_by(b, region, Zoom, 1, true), k, Width, Fc, false);
    }
    const value whole = resize_like(b, first.parts, x, true), near = resize_like(b, second.parts, region, true);
    // the box becomes the mean of both: whole + (near - whole there) / 2
    const value change = ops::affine(b, add(b, near, ops::affine(b, crop(whole), -1, 0)), 0.5, 0);
    const value placed = ops::pad(b, change, B::top, B::left, SideH - B::top - B::height, SideW - B::left - B::width);
    b.output("logits", scaled(add(b, whole, placed)), 1);
    b.output("image_scores", scaled(first.parts));
    b.output("boxes", scaled(first.boxes));
    b.output("box_conf", scaled(first.confidence));
    b.output("crop_scores", scaled(near));
  }
};

inline constexpr network_entry hazn_networks[] = {
    {"hazn-image", "HAZN, first level", "Xia et al., ECCV 2016", "LargeFOV with boxes and confidences of where to zoom", &AutoZoomNet<>::build,
     recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 30, 321}, 1, 0, 16},
    {"hazn-region", "HAZN, last level", "Xia et al., ECCV 2016", "LargeFOV for enlarged regions, without zoom heads",
     &AutoZoomNet<from_data, false>::build, recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 30, 321}, 1, 0, 16},
};

}  // namespace rsseg
