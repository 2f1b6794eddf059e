// SPDX-License-Identifier: MIT
// Resizing. Attributes: mode = interpolation; flag = align_corners; count = rule of the extent (resize_rule);
// bins_h, bins_w: the extent (fixed) or factor numerator and denominator; alpha: if > 0, source step per output pixel
// instead of in / out (PyTorch with an explicit scale_factor).
// Bilinear, align_corners false: source = (i + 0.5) * in / out - 0.5 clamped at 0; true: i * (in - 1) / (out - 1).
// Nearest: floor(i * in / out). No antialiasing.
#pragma once
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph::ops {

enum class resize_rule : int {
  like,         // extent of inputs[1]
  fixed,        // bins_h x bins_w
  factor,       // floor(in * bins_h / bins_w)
  corner_zoom,  // (in - 1) * bins_h / bins_w + 1: keeps the corners of align_corners (PSPNet, ICNet)
};

constexpr value resize_like(builder& b, value x, value like, interpolation how, bool align_corners) {
  attributes at;
  at.mode = int(how), at.flag = align_corners, at.count = int(resize_rule::like);
  return b.emit(op::resize, {x.id, like.id}, x.channels, like.scale, at, like.exact);
}
constexpr value resize_to(builder& b, value x, int h, int w, interpolation how, bool align_corners) {
  attributes at;
  at.mode = int(how), at.flag = align_corners, at.count = int(resize_rule::fixed), at.bins_h = h, at.bins_w = w;
  return b.emit(op::resize, {x.id}, x.channels, {1, 1, h, w}, at);
}
/// step > 0 fixes the source step per output pixel (PyTorch's 1 / scale_factor).
constexpr value resize_by(builder& b, value x, int num, int den, interpolation how, bool align_corners, bool corner_zoom = false, double step = 0) {
  attributes at;
  at.mode = int(how), at.flag = align_corners, at.bins_h = num, at.bins_w = den, at.alpha = step;
  at.count = int(corner_zoom ? resize_rule::corner_zoom : resize_rule::factor);
  if (num < 1 || den < 1) b.fail(fault::bad_option, 1, num < den ? num : den);
  return b.emit(op::resize, {x.id}, x.channels, x.scale.times(num, den), at, x.exact && !x.scale.fixed());
}

constexpr bool resize_extent(graph_error& e, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  const attributes& a = n.at;
  const shape x = s[g.input_of(id, 0)];
  if (n.kind == op::resize_grad) return out = s[g.input_of(id, 1)], true;
  if (n.kind != op::resize) return false;
  out = x;
  switch (resize_rule(a.count)) {
    case resize_rule::like:
      out.h = s[g.input_of(id, 1)].h, out.w = s[g.input_of(id, 1)].w;
      break;
    case resize_rule::fixed:
      out.h = a.bins_h, out.w = a.bins_w;
      break;
    case resize_rule::factor:
      out.h = int(std::int64_t(x.h) * a.bins_h / a.bins_w), out.w = int(std::int64_t(x.w) * a.bins_h / a.bins_w);
      break;
    case resize_rule::corner_zoom:
      out.h = (x.h - 1) * a.bins_h / a.bins_w + 1, out.w = (x.w - 1) * a.bins_h / a.bins_w + 1;
      break;
  }
  if (out.h < 1 || out.w < 1) e = {fault::input_size_not_allowed, id, 1, out.h < out.w ? out.h : out.w};
  return true;
}

constexpr void resize_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  const int x = g.input_of(id, 0);
  if (t.wants(x)) t.give(x, g.append(op::resize_grad, {dy, x}, n.channels, n.at));
}

}  // namespace rsseg::graph::ops
