// SPDX-License-Identifier: MIT
// Moving values: concatenation, slices, padding and cropping, quarter turns, reshaping, batches.
// Attributes: slice, batch_slice: begin, count; pad_crop: count = pad_rule, mode = border, pad_* (negative crops), alpha, beta = top and
// left as fractions of the larger map, bins_h / bins_w = the window's share of each side (rules window and paste);
// rotate: begin = counter-clockwise quarter turns (as rot90 over H, W), applied after count = flips (1: up-down, 2: left-right);
// reshape: count = reshape_rule, bins_h, bins_w; flag (with `like`): the channels are as inputs[1], too.
#pragma once
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph::ops {

enum class pad_rule : int {
  given,         // by pad_top, pad_left, pad_bottom, pad_right
  center_floor,  // to the extent of inputs[1]; top = floor((want - have) / 2), negative when cropping
  center_trunc,  // the same, rounded toward zero
  offset,        // to the extent of inputs[1]; top = pad_top, left = pad_left
  window,        // crops a share of each side that begins at a fraction of it; both rounded half to even
  paste,         // to the extent of inputs[1]; lies at a fraction of it: undoes window
};
enum class border : int { zero, reflect, replicate };
enum class reshape_rule : int {
  rows,  // (N,C,H,W) -> (N,C,H*W,1)
  like,  // H*W pixels laid out as inputs[1]
  dims,  // rows = bins_h * bins_w with bins_h x bins_w, channels = count of elements / rows (memory order)
};

constexpr value concat(builder& b, const value* parts, int count) {
  list<int> ids;
  int channels = 0;
  for (int i = 0; i < count; ++i) {
    b.require_channels(parts[i]);
    b.require_same_scale(parts[0], parts[i]);
    ids.push_back(parts[i].id);
    channels += parts[i].channels;
  }
  return b.emit(op::concat, ids.begin(), count, channels, parts[0].scale, {}, parts[0].exact);
}
constexpr value slice(builder& b, value x, int begin, int count) {
  if (begin < 0 || count < 1 || (x.channels > 0 && begin + count > x.channels)) b.fail(fault::bad_option, x.channels, begin + count);
  attributes at;
  at.begin = begin, at.count = count;
  return b.emit(op::slice, {x.id}, count, x.scale, at, x.exact);
}
constexpr value pad(builder& b, value x, int top, int left, int bottom, int right, border how = border::zero) {
  attributes at;
  at.count = int(pad_rule::given), at.mode = int(how);
  at.pad_top = top, at.pad_left = left, at.pad_bottom = bottom, at.pad_right = right;
  return b.emit(op::pad_crop, {x.id}, x.channels, x.scale, at, x.exact);
}
constexpr value pad_crop_like(builder& b, value x, value like, pad_rule rule, int top = 0, int left = 0) {
  attributes at;
  at.count = int(rule), at.pad_top = top, at.pad_left = left;
  return b.emit(op::pad_crop, {x.id, like.id}, x.channels, like.scale, at, like.exact);
}
/// A window of x that begins at the fractions (top, left) of its sides and is num / den of them: rows round(top H) .. + round(num H / den).
constexpr value crop_window(builder& b, value x, double top, double left, int num, int den) {
  if (num < 1 || den < num || top < 0 || left < 0 || top >= 1 || left >= 1) b.fail(fault::bad_option, den, num);
  attributes at;
  at.count = int(pad_rule::window), at.alpha = top, at.beta = left, at.bins_h = num, at.bins_w = den;
  return b.emit(op::pad_crop, {x.id}, x.channels, x.scale.times(num, den), at, false);
}
/// Zeros of the extent of `like` with x at the fractions (top, left) of its sides.
constexpr value paste_window(builder& b, value x, value like, double top, double left) {
  attributes at;
  at.count = int(pad_rule::paste), at.alpha = top, at.beta = left;
  return b.emit(op::pad_crop, {x.id, like.id}, x.channels, like.scale, at, like.exact);
}
constexpr value rotate(builder& b, value x, int quarter_turns, int flips = 0) {
  attributes at;
  at.begin = ((quarter_turns % 4) + 4) % 4, at.count = flips;
  scale_rule s = x.scale;
  if (at.begin % 2) s.fixed_h = x.scale.fixed_w, s.fixed_w = x.scale.fixed_h;
  return b.emit(op::rotate, {x.id}, x.channels, s, at, x.exact);
}
constexpr value to_rows(builder& b, value x) {
  attributes at;
  at.count = int(reshape_rule::rows);
  return b.emit(op::reshape, {x.id}, x.channels, x.scale, at, false);
}
constexpr value reshape_like(builder& b, value x, value like) {
  attributes at;
  at.count = int(reshape_rule::like);
  return b.emit(op::reshape, {x.id, like.id}, x.channels, like.scale, at, like.exact);
}
/// Reinterprets the memory of each image as h x w pixels of c channels.
constexpr value reshape(builder& b, value x, int h, int w, int c) {
  attributes at;
  at.count = int(reshape_rule::dims), at.bins_h = h, at.bins_w = w;
  return b.emit(op::reshape, {x.id}, c, {1, 1, h, w}, at);
}
constexpr value batch_concat(builder& b, const value* parts, int count) {
  list<int> ids;
  for (int i = 0; i < count; ++i) b.require_same_channels(parts[0], parts[i]), b.require_same_scale(parts[0], parts[i]), ids.push_back(parts[i].id);
  return b.emit(op::batch_concat, ids.begin(), count, parts[0].channels, parts[0].scale, {}, parts[0].exact);
}
/// Part `index` of `parts` equal parts of the batch.
constexpr value batch_part(builder& b, value x, int index, int parts) {
  attributes at;
  at.begin = index, at.count = parts;
  return b.emit(op::batch_slice, {x.id}, x.channels, x.scale, at, x.exact);
}

/// x >= 0 to the nearest integer, halves to the even one.
constexpr int round_even(double x) {
  const int low = int(x);
  const double rest = x - low;
  return rest > 0.5 || (rest == 0.5 && low % 2) ? low + 1 : low;
}

/// Offset of x inside the result of a pad_crop node (top, left), from extents.
constexpr void pad_offset(const attributes& a, int in_h, int in_w, int out_h, int out_w, int& top, int& left) {
  top = a.pad_top, left = a.pad_left;
  const int dh = out_h - in_h, dw = out_w - in_w;
  if (pad_rule(a.count) == pad_rule::center_floor) top = dh >= 0 ? dh / 2 : -((1 - dh) / 2), left = dw >= 0 ? dw / 2 : -((1 - dw) / 2);
  if (pad_rule(a.count) == pad_rule::center_trunc) top = dh / 2, left = dw / 2;
  if (pad_rule(a.count) == pad_rule::window) top = -round_even(a.alpha * in_h), left = -round_even(a.beta * in_w);
  if (pad_rule(a.count) == pad_rule::paste) top = round_even(a.alpha * out_h), left = round_even(a.beta * out_w);
}

constexpr bool arrange_extent(graph_error& e, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  if (n.input_count == 0) return false;
  const attributes& a = n.at;
  const shape x = s[g.input_of(id, 0)];
  out = x;
  switch (n.kind) {
    case op::concat:
      for (int i = 1; i < n.input_count; ++i) {
        const shape y = s[g.input_of(id, i)];
        if (y.h != x.h || y.w != x.w || y.n != x.n)
          e = {fault::extents_differ, id, y.h != x.h ? x.h : y.w != x.w ? x.w : x.n, y.h != x.h ? y.h : y.w != x.w ? y.w : y.n};
        out.c += y.c;
      }
      return true;
    case op::slice:
      out.c = a.count;
      return true;
    case op::batch_slice:
      if (x.n % a.count != 0) e = {fault::not_divisible, id, a.count, x.n};
      out.n = x.n / a.count;
      return true;
    case op::batch_concat:
      for (int i = 1; i < n.input_count; ++i) out.n += s[g.input_of(id, i)].n;
      return true;
    case op::slice_grad:
    case op::pad_crop_grad:
    case op::batch_slice_grad:
      out = s[g.input_of(id, 1)];
      return true;
    case op::pad_crop:
      if (pad_rule(a.count) == pad_rule::given)
        out.h = x.h + a.pad_top + a.pad_bottom, out.w = x.w + a.pad_left + a.pad_right;
      else if (pad_rule(a.count) == pad_rule::window)
        out.h = round_even(double(x.h) * a.bins_h / a.bins_w), out.w = round_even(double(x.w) * a.bins_h / a.bins_w);
      else
        out.h = s[g.input_of(id, 1)].h, out.w = s[g.input_of(id, 1)].w;
      if (out.h < 1 || out.w < 1) e = {fault::input_size_not_allowed, id, 1, out.h < out.w ? out.h : out.w};
      return true;
    case op::rotate:
      if (a.begin % 2) out.h = x.w, out.w = x.h;
      return true;
    case op::reshape:
      if (reshape_rule(a.count) == reshape_rule::rows) out.h = x.h * x.w, out.w = 1;
      if (reshape_rule(a.count) == reshape_rule::like && a.flag) return out = s[g.input_of(id, 1)], true;
      if (reshape_rule(a.count) == reshape_rule::like) {
        out.h = s[g.input_of(id, 1)].h, out.w = s[g.input_of(id, 1)].w;
        if (out.h * out.w != x.h * x.w) e = {fault::extents_differ, id, out.h * out.w, x.h * x.w};
      }
      if (reshape_rule(a.count) == reshape_rule::dims) {
        out.h = a.bins_h, out.w = a.bins_w;
        const int total = x.c * x.h * x.w;
        if (total % (out.h * out.w) != 0) e = {fault::not_divisible, id, out.h * out.w, total};
        out.c = total / (out.h * out.w);
      }
      return true;
    default:
      return false;
  }
}

constexpr void arrange_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  const int x = g.input_of(id, 0);
  switch (n.kind) {
    case op::concat: {
      int begin = 0;
      for (int i = 0; i < n.input_count; ++i) {
        const int in = g.input_of(id, i), c = g.nodes[in].channels;
        attributes at;
        at.begin = begin, at.count = c;
        if (t.wants(in)) t.give(in, g.append(op::slice, {dy}, c, at));
        begin += c;
      }
      return;
    }
    case op::slice:
      if (t.wants(x)) t.give(x, g.append(op::slice_grad, {dy, x}, g.nodes[x].channels, n.at));
      return;
    case op::batch_slice:
      if (t.wants(x)) t.give(x, g.append(op::batch_slice_grad, {dy, x}, n.channels, n.at));
      return;
    case op::batch_concat:  // equal parts
      for (int i = 0; i < n.input_count; ++i) {
        const int in = g.input_of(id, i);
        attributes at;
        at.begin = i, at.count = n.input_count;
        if (t.wants(in)) t.give(in, g.append(op::batch_slice, {dy}, n.channels, at));
      }
      return;
    case op::pad_crop:
      if (t.wants(x)) t.give(x, g.append(op::pad_crop_grad, {dy, x}, n.channels, n.at));
      return;
    case op::rotate: {
      // y = turn^k(flip(x)): the inverse turns back, then flips; turns and flips do not commute, so two nodes if both are there.
      if (!t.wants(x)) return;
      int back = dy;
      if (n.at.begin) {
        attributes at;
        at.begin = 4 - n.at.begin;
        back = g.append(op::rotate, {back}, n.channels, at);
      }
      if (n.at.count) {
        attributes at;
        at.count = n.at.count;
        back = g.append(op::rotate, {back}, n.channels, at);
      }
      t.give(x, back);
      return;
    }
    case op::reshape: {
      if (!t.wants(x)) return;
      attributes at;
      at.count = int(reshape_rule::like), at.flag = true;
      t.give(x, g.append(op::reshape, {dy, x}, g.nodes[x].channels, at));
      return;
    }
    default:
      return;
  }
}

}  // namespace rsseg::graph::ops
