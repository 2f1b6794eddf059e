// SPDX-License-Identifier: MIT
// Entries of custom operators. The point operators of layers/point_ops.hpp (PointRend) have kernels here; a user's operator brings its own
// (custom_op::forward_cuda), or is computed on the host with a copy there and back, which also keeps the step from being captured as a graph.
#pragma once
#include "../point_sample.cuh"
#include "loss.cuh"
#include "rsseg/layers/point_ops.hpp"

namespace rsseg::cuda {

enum class custom_kind { sample, sample_gradient, cells, take, place, own, host };

inline namespace RSSEG_BACKEND_NS {

inline custom_kind custom_kind_of(const custom_op* op) {
  namespace points = ::rsseg::detail;
  if (op == &points::sample_at_op) return custom_kind::sample;
  if (op == &points::sample_at_grad_op) return custom_kind::sample_gradient;
  if (op == &points::cells_op) return custom_kind::cells;
  if (op == &points::take_at_op) return custom_kind::take;
  if (op == &points::place_at_op) return custom_kind::place;
  return op->forward_cuda ? custom_kind::own : custom_kind::host;
}

// --- choice of pixels: uncertainty, sort, first `count`, in ascending order of their numbers
struct point_uncertainty {
  const float* z;
  int channels;
  float* u;
  __device__ void operator()(std::int64_t i) const {
    const float* p = z + i * channels;
    if (channels == 1) {
      u[i] = -fabsf(p[0]);
      return;
    }
    float first = fmaxf(p[0], p[1]), second = fminf(p[0], p[1]);
    for (int k = 2; k < channels; ++k) second = fmaxf(second, fminf(first, p[k])), first = fmaxf(first, p[k]);
    u[i] = second - first;
  }
};
/// Pairs (key of value[from[i]] or value[i], i), largest value first.
struct descending_pairs {
  const float* value;
  const int* from;
  std::uint32_t* keys;
  int* numbers;
  __device__ void operator()(std::int64_t i) const {
    const float v = value[from ? from[i] : i];
    keys[i] = descending_key(v == 0 ? 0.0f : v), numbers[i] = int(i);  // -0 is equal to 0
  }
};
struct mark_first {
  const int* order;
  int* mark;
  std::int64_t count;
  __device__ void operator()(std::int64_t i) const { mark[order[i]] = i < count; }
};
/// Marked items to their places; reversed: unmarked ones, from the last to the first.
struct collect_marked {
  const int *mark, *before, *from;
  int* out;
  std::int64_t count, size;
  bool reversed;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t at = reversed ? size - 1 - i : i;
    if (bool(mark[at]) != !reversed || before[i] >= count) return;
    out[before[i]] = from ? from[at] : int(at);
  }
};
struct flag_reversed {
  const int* mark;
  int* flag;
  std::int64_t size;
  __device__ void operator()(std::int64_t i) const { flag[i] = !mark[size - 1 - i]; }
};
struct cell_centres {
  const int* chosen;
  int h, w;
  float* points;
  __device__ void operator()(std::int64_t i) const {
    points[2 * i] = float((double(chosen[i] % w) + 0.5) / double(w)), points[2 * i + 1] = float((double(chosen[i] / w) + 0.5) / double(h));
  }
};
struct cells_layout {
  float* score;
  std::uint32_t* keys;
  int *values, *order, *mark, *flag, *chosen, *sort;
  std::size_t bytes;
  cells_layout(unsigned char* at, std::int64_t cells) {
    workspace_cutter cut(at);
    const std::size_t n = std::size_t(cells);
    score = cut.take<float>(n), keys = cut.take<std::uint32_t>(n), values = cut.take<int>(n), order = cut.take<int>(n);
    mark = cut.take<int>(n), flag = cut.take<int>(n), chosen = cut.take<int>(n), sort = cut.take<int>(sort_workspace(cells));
    bytes = cut.used();
  }
};
inline void choose_cells(const call<float>& c) {
  const shape s = c.in_extent(0);
  const std::int64_t cells = std::int64_t(s.h) * s.w, count = c.extent().h;
  const cells_layout w(c.workspace, cells);
  const stream_t stream = c.stream();
  for (int n = 0; n < s.n; ++n) {
    each(stream, "uncertainty", cells, point_uncertainty{c.in(0) + n * cells * s.c, s.c, w.score});
    if (c.count() == 1) {
      each(stream, "uncertain cells", cells, descending_pairs{w.score, nullptr, w.keys, w.values});
      sort_pairs(stream, w.keys, w.values, cells, w.sort);
      each(stream, "uncertain cells", cells, mark_first{w.values, w.mark, count});
      prefix_sums(stream, w.mark, w.flag, cells, w.sort);
      each(stream, "uncertain cells", cells, collect_marked{w.mark, w.flag, nullptr, w.chosen, count, cells, false});
    } else {  // three quarters: the most uncertain of a random pool; the rest: other random ones
      const std::int64_t pool = 3 * count < cells ? 3 * count : cells, wanted = (3 * count + 3) / 4, hard = wanted < pool ? wanted : pool;
      each(stream, "random cells", cells, descending_pairs{c.in(1) + n * cells, nullptr, w.keys, w.order});
      sort_pairs(stream, w.keys, w.order, cells, w.sort);
      set_bytes(stream, w.mark, 0, std::size_t(cells) * sizeof(int));
      each(stream, "random cells", pool, descending_pairs{w.score, w.order, w.keys, w.values});
      sort_pairs(stream, w.keys, w.values, pool, w.sort);
      each(stream, "random cells", pool, mark_first{w.values, w.mark, hard});
      prefix_sums(stream, w.mark, w.flag, pool, w.sort);
      each(stream, "random cells", pool, collect_marked{w.mark, w.flag, w.order, w.chosen, hard, pool, false});
      if (count > hard) {
        each(stream, "random cells", cells, flag_reversed{w.mark, w.flag, cells});
        prefix_sums(stream, w.flag, w.flag, cells, w.sort);
        each(stream, "random cells", cells, collect_marked{w.mark, w.flag, w.order, w.chosen + hard, count - hard, cells, true});
      }
    }
    each(stream, "cell centres", count, cell_centres{w.chosen, s.h, s.w, c.out() + n * count * 2});
  }
}

// --- writing at points: where several points name one pixel, the last wins, as on the CPU
RSSEG_HD inline bool point_pixel(const float* p, int h, int w, int& x, int& y) {
  x = int(p[0] * float(w)), y = int(p[1] * float(h));
  return x >= 0 && y >= 0 && x < w && y < h;
}
struct claim_pixels {
  const float* points;
  shape s;
  int count;
  int* winner;
  __device__ void operator()(std::int64_t i) const {
    int x, y;
    if (point_pixel(points + 2 * i, s.h, s.w, x, y)) atomicMax(&winner[(i / count * s.h + y) * s.w + x], int(i % count));
  }
};
struct write_points {
  const float *points, *values;
  shape s;
  int count;
  const int* winner;
  float* y;
  __device__ void operator()(std::int64_t e) const {
    const std::int64_t i = e / s.c;
    int px, py;
    if (!point_pixel(points + 2 * i, s.h, s.w, px, py)) return;
    const std::int64_t pixel = (i / count * s.h + py) * s.w + px;
    if (winner[pixel] == int(i % count)) y[pixel * s.c + e % s.c] = values[e];
  }
};
struct take_nearest {
  const float *x, *points;
  shape s;
  int count;
  float* y;
  static __device__ int nearest(double position, int extent) {  // halves to even; -1 outside
    if (!(position > -2 && position < extent + 1.0)) return -1;
    const double base = floor(position), rest = position - base;
    const int up = int(base) + (rest > 0.5 || (rest == 0.5 && (int(base) & 1)) ? 1 : 0);
    return up >= 0 && up < extent ? up : -1;
  }
  __device__ void operator()(std::int64_t e) const {
    const std::int64_t i = e / s.c;
    const int px = nearest(double(points[2 * i]) * s.w - 0.5, s.w), py = nearest(double(points[2 * i + 1]) * s.h - 0.5, s.h);
    y[e] = px < 0 || py < 0 ? 0.0f : x[((i / count * s.h + py) * s.w + px) * s.c + e % s.c];
  }
};
inline point_geometry points_of(const shape& map, const shape& points) {
  point_geometry g;
  g.n = map.n, g.h = map.h, g.w = map.w, g.c = map.c, g.count = points.h * points.w;
  return g;
}

inline std::size_t custom_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  const graph::node& n = g.nodes[id];
  const shape first = s[g.input_of(id, 0)];
  switch (custom_kind_of(n.at.custom)) {
    case custom_kind::sample_gradient:
      return sizeof(int) * point_workspace(points_of(s[id], s[g.input_of(id, 1)]));
    case custom_kind::cells:
      return cells_layout(nullptr, std::int64_t(first.h) * first.w).bytes;
    case custom_kind::place:
      return sizeof(int) * std::size_t(first.pixels());
    case custom_kind::own: {
      shape in[8];
      for (int k = 0; k < n.input_count && k < 8; ++k) in[k] = s[g.input_of(id, k)];
      return n.at.custom->cuda_workspace ? n.at.custom->cuda_workspace(n.at, in, n.input_count) : 0;
    }
    default:
      return 0;
  }
}
/// The operator's float kernel on the host; waits for the stream.
inline void run_on_host(const call<float>& c, custom_call<float> call) {
  std::vector<std::vector<float>> values(std::size_t(call.inputs) + 1);
  const float* in[8] = {};
  for (int k = 0; k < call.inputs; ++k) {
    values[std::size_t(k)].resize(std::size_t(call.in_extent[k].size()));
    in[k] = values[std::size_t(k)].data();
    copy_bytes(c.stream(), values[std::size_t(k)].data(), call.in[k], values[std::size_t(k)].size() * sizeof(float), "copy to the host");
  }
  synchronise(c.stream(), "copy the inputs of a custom operator");
  std::vector<float>& out = values.back();
  out.resize(std::size_t(call.out_extent.size()));
  float* const device_out = call.out;
  call.in = in, call.out = out.data();
  c.at().custom->forward_float(call);
  copy_bytes(c.stream(), device_out, out.data(), out.size() * sizeof(float), "copy from the host");
  synchronise(c.stream(), "copy the result of a custom operator");
}
inline void custom(const call<float>& c) {
  const stream_t stream = c.stream();
  switch (custom_kind_of(c.at().custom)) {
    case custom_kind::sample:
      return point_sample<float>(stream, points_of(c.in_extent(0), c.in_extent(1)), c.in(0), c.in(1), c.out());
    case custom_kind::sample_gradient:  // (dy, points, x)
      return point_sample_backward<float>(stream, points_of(c.extent(), c.in_extent(1)), c.in(1), c.in(0), c.out(), c.work<int>());
    case custom_kind::cells:
      return choose_cells(c);
    case custom_kind::take: {
      const int count = c.in_extent(1).h * c.in_extent(1).w;
      return each(stream, "take_at", c.extent().size(), take_nearest{c.in(0), c.in(1), c.in_extent(0), count, c.out()});
    }
    case custom_kind::place: {
      const shape s = c.in_extent(0);
      const int count = c.in_extent(1).h * c.in_extent(1).w;
      copy_values(stream, c.in(0), c.out(), s.size());
      set_bytes(stream, c.workspace, 0xFF, std::size_t(s.pixels()) * sizeof(int));  // -1
      each(stream, "place_at claims", std::int64_t(s.n) * count, claim_pixels{c.in(1), s, count, c.work<int>()});
      return each(stream, "place_at", std::int64_t(s.n) * count * s.c, write_points{c.in(1), c.in(2), s, count, c.work<int>(), c.out()});
    }
    default:
      break;
  }
  const float* in[8] = {};
  shape extents[8];
  const int count = c.count() < 8 ? c.count() : 8;
  for (int k = 0; k < count; ++k) in[k] = c.in(k), extents[k] = c.in_extent(k);
  custom_call<float> call{&c.at(), in, extents, count, c.out(), c.extent()};
  call.workspace = c.workspace;
  if (c.at().custom->forward_cuda)
    c.at().custom->forward_cuda(call, stream);
  else
    run_on_host(c, call);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
