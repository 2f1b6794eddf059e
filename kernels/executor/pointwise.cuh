// SPDX-License-Identifier: MIT
// Entries of the element-wise operators, broadcasts and reductions (graph/ops/pointwise.hpp), of constants, noise and dropout. Bound by memory.
#pragma once
#include "../elementwise.cuh"
#include "../tensor_ops.cuh"
#include "call.cuh"
#include "rsseg/core/draws.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

using graph::function;

struct unary_op {
  function f;
  float a;
  __device__ float operator()(float v, float, float) const {
    switch (f) {
      case function::relu:
        return v < 0 ? 0.0f : v;  // a NaN stays visible
      case function::relu6:
        return v < 0 ? 0.0f : v > 6 ? 6.0f : v;
      case function::leaky_relu:
        return v > 0 ? v : a * v;
      case function::elu:
        return v > 0 ? v : a * expm1f(v);
      case function::sigmoid:
        return 1.0f / (1.0f + expf(-v));
      case function::tanh:
        return tanhf(v);
      case function::exp:
        return expf(v);
      case function::log:
        return logf(v);
      case function::sqrt:
        return sqrtf(v);
      case function::rsqrt:
        return 1.0f / sqrtf(v);
      case function::reciprocal:
        return 1.0f / v;
      case function::square:
        return v * v;
      case function::abs:
        return v < 0 ? -v : v;
      case function::clamp_min:
        return v < a ? a : v;
      case function::clamp_max:
        return v > a ? a : v;
      case function::sign:
        return v > 0 ? 1.0f : v < 0 ? -1.0f : 0.0f;
    }
    return v;
  }
};
/// (dy, r): r is the result or the input, as graph::ops::derivative_reads_result says. At kinks as on the CPU.
struct unary_gradient_op {
  function f;
  float a;
  __device__ float operator()(float d, float r, float) const {
    switch (f) {
      case function::relu:
        return r > 0 ? d : 0.0f;
      case function::relu6:
        return r > 0 && r < 6 ? d : 0.0f;
      case function::leaky_relu:
        return r > 0 ? d : a * d;
      case function::elu:
        return r > 0 ? d : d * (r + a);
      case function::sigmoid:
        return d * (r * (1 - r));
      case function::tanh:
        return d * (1 - r * r);
      case function::exp:
        return d * r;
      case function::log:
        return d / r;
      case function::sqrt:
        return d / (2 * r);
      case function::rsqrt:
        return d * (-0.5f * r * r * r);
      case function::reciprocal:
        return -d * r * r;
      case function::square:
        return d * (r + r);
      case function::abs:
        return r > 0 ? d : r < 0 ? -d : 0.0f;
      case function::clamp_min:
        return r < a ? 0.0f : d;
      case function::clamp_max:
        return r > a ? 0.0f : d;
      case function::sign:
        return 0.0f;
    }
    return d;
  }
};
struct affine_op {
  float a, b;
  __device__ float operator()(float v, float, float) const { return a * v + b; }
};

template <class T>
void unary(const call<T>& c) {
  map<T>(c.stream(), "unary", unary_op{function(c.at().mode), float(c.at().alpha)}, c.in(0), nullptr, nullptr, c.out(), c.extent().size());
}
template <class T>
void unary_grad(const call<T>& c) {
  map<T>(c.stream(), "unary gradient", unary_gradient_op{function(c.at().mode), float(c.at().alpha)}, c.in(0), c.in(1), nullptr, c.out(),
         c.extent().size());
}
template <class T>
void affine(const call<T>& c) {
  map<T>(c.stream(), "affine", affine_op{float(c.at().alpha), float(c.at().beta)}, c.in(0), nullptr, nullptr, c.out(), c.extent().size());
}
template <class T>
void prelu_forward(const call<T>& c) {
  prelu<T>(c.stream(), c.in(0), c.wide(1), nullptr, c.out(), c.extent().size(), int(c.in_extent(1).size()));
}
template <class T>
void prelu_grad(const call<T>& c) {
  prelu<T>(c.stream(), c.in(1), c.wide(2), c.in(0), c.out(), c.extent().size(), int(c.in_extent(2).size()));
}
inline std::size_t prelu_slope_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  const shape x = s[g.input_of(id, 1)];
  const int channels = int(s[id].size());  // one slope for all: the map seen as one channel
  return sizeof(float) * channel_sums_workspace<1>(x.size() / channels, channels);
}
template <class T>
void prelu_slope_grad(const call<T>& c) {
  const int channels = int(c.extent().size());
  prelu_slope_gradient<T>(c.stream(), c.in(1), c.in(0), c.wide_out(), c.in_extent(1).size() / channels, channels, c.template work<float>());
}

// --- sums and products of any number of operands, extents of 1 repeated
/// Operands of one launch. Unrolled loops over it keep the list in constant memory.
template <class T>
struct operand_list {
  static constexpr int most = 6;
  const T* x[most];
  strided_view view[most];
  int count = 0;
};
template <class T>
struct combine_broadcast {
  operand_list<T> o;
  box_index box;
  binary kind;
  T* y;
  __device__ void operator()(std::int64_t i) const {
    float v = to_float(o.x[0][box.at(o.view[0], i)]);
    RSSEG_UNROLL
    for (int k = 1; k < operand_list<T>::most; ++k) {
      if (k >= o.count) break;
      const float w = to_float(o.x[k][box.at(o.view[k], i)]);
      v = kind == binary::sum ? v + w : kind == binary::product ? v * w : w > v ? w : v;
    }
    y[i] = from_float<T>(v);
  }
};
template <class T>
struct combine_equal {
  operand_list<T> o;
  binary kind;
  T* y;
  __device__ void operator()(std::int64_t i) const {
    float v = to_float(o.x[0][i]);
    RSSEG_UNROLL
    for (int k = 1; k < operand_list<T>::most; ++k) {
      if (k >= o.count) break;
      const float w = to_float(o.x[k][i]);
      v = kind == binary::sum ? v + w : kind == binary::product ? v * w : w > v ? w : v;
    }
    y[i] = from_float<T>(v);
  }
};
template <class T>
void combine(const call<T>& c, binary kind, const char* name) {
  const shape o = c.extent();
  bool equal = true;
  for (int k = 0; k < c.count(); ++k) equal = equal && c.in_extent(k) == o;
  if (equal && c.count() == 2 && kind != binary::maximum) {
    if (kind == binary::sum) return map<T>(c.stream(), name, sum_op{1, 1, activation::none, 0}, c.in(0), c.in(1), nullptr, c.out(), o.size());
    return map<T>(c.stream(), name, product_op{}, c.in(0), c.in(1), nullptr, c.out(), o.size());
  }
  for (int first = 0; first < c.count();) {  // beyond six operands: the sum so far is the first operand of the next launch
    operand_list<T> list;
    if (first > 0) list.x[0] = c.out(), list.view[0] = view_of(o), list.count = 1;
    for (; first < c.count() && list.count < operand_list<T>::most; ++first, ++list.count)
      list.x[list.count] = c.in(first), list.view[list.count] = view_of(c.in_extent(first));
    for (int k = list.count; k < operand_list<T>::most; ++k) list.x[k] = list.x[0];
    if (equal)
      each(c.stream(), name, o.size(), combine_equal<T>{list, kind, c.out()});
    else
      each(c.stream(), name, o.size(), combine_broadcast<T>{list, box_index(o), kind, c.out()});
  }
}
template <class T>
void add_values(const call<T>& c) {
  combine(c, binary::sum, "add");
}
template <class T>
void mul_values(const call<T>& c) {
  combine(c, binary::product, "mul");
}
template <class T>
void maximum_values(const call<T>& c) {
  combine(c, binary::maximum, "maximum");
}
/// (dy, inputs...): dy where input `begin` is the first maximum.
template <class T>
void maximum_grad(const call<T>& c) {
  map_list<T> maps{};
  maps.count = c.count() - 1;
  if (maps.count > map_list<T>::most)
    throw usage_error("cuda: the gradient of a maximum of " + std::to_string(maps.count) + " maps, at most " + std::to_string(map_list<T>::most));
  for (int k = 0; k < maps.count; ++k) maps.x[k] = c.in(k + 1);
  maximum_gradient<T>(c.stream(), maps, c.at().begin, c.in(0), c.out(), c.extent().size());
}

// --- reductions
/// y = factor * sum over the axes where y has extent 1.
inline bool sums_images(const shape& x, const shape& y) { return y.h == 1 && y.w == 1 && y.c == x.c && (y.n == 1 || y.n == x.n); }
inline std::size_t reduce_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  const shape x = s[g.input_of(id, 0)], y = s[id];
  return sums_images(x, y) ? sizeof(float) * channel_sums_workspace<1>(x.pixels() / y.n, x.c, y.n) : 0;
}
/// The result is float: a sum of many values does not fit two bytes.
template <class T>
void reduce(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const float factor = c.at().flag ? float(double(o.size()) / double(s.size())) : 1.0f;
  if (!sums_images(s, o)) return reduce_axes<T, float>(c.stream(), s, o, c.in(0), c.wide_out(), factor);
  sum_pixels<T>(c.stream(), c.in(0), c.wide_out(), s.pixels() / o.n, s.c, c.template work<float>(), o.n, factor);
}
/// The gradient of a bias.
template <class T>
void channel_sum(const call<T>& c) {
  const shape s = c.in_extent(0);
  sum_pixels<T>(c.stream(), c.in(0), c.wide_out(), s.pixels(), s.c, c.template work<float>());
}
template <class T>
struct repeat_value {
  box_index box;
  strided_view view;
  const T* x;
  T* y;
  float factor;
  __device__ void operator()(std::int64_t i) const { y[i] = from_float<T>(to_float(x[box.at(view, i)]) * factor); }
};
template <class T>
void broadcast_like(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  each(c.stream(), "broadcast_like", o.size(),
       repeat_value<T>{box_index(o), view_of(s), c.in(0), c.out(), c.at().flag ? float(double(s.size()) / double(o.size())) : 1.0f});
}

// --- sources and random operators: the same draws as the CPU's (core/draws.hpp)
template <class T>
struct scaled_fill {
  T* y;
  float value;
  const run_numbers* numbers;  // null: no scale
  __device__ void operator()(std::int64_t i) const { y[i] = from_float<T>(numbers ? value * numbers->loss_scale : value); }
};
/// The constant from which gradients start is multiplied by the loss scale.
template <class T>
void constant(const call<T>& c) {
  const bool seed = c.g->loss >= 0 && c.count() == 1 && c.input_id(0) == c.g->loss && c.g->nodes[c.id].pass == 1;
  each(c.stream(), "constant", c.extent().size(), scaled_fill<T>{c.out(), float(c.at().alpha), seed ? c.numbers : nullptr});
}
template <class T>
struct draw_noise {
  T* y;
  std::int64_t size;
  std::uint64_t name;
  const run_numbers* numbers;
  __device__ void operator()(std::int64_t block) const {
    const philox_block words = philox(numbers->seed, name + numbers->step * 0x9E3779B97F4A7C15u, std::uint64_t(block));
    RSSEG_UNROLL
    for (int pair = 0; pair < 2; ++pair) {  // Box and Muller, in double as on the host
      const double u = 1.0 - double(unit_float(words.v[2 * pair])), v = double(unit_float(words.v[2 * pair + 1]));
      const double radius = sqrt(-2.0 * log(u)), angle = 6.283185307179586476925 * v;
      const std::int64_t i = block * 4 + 2 * pair;
      if (i < size) y[i] = from_float<T>(float(radius * cos(angle)));
      if (i + 1 < size) y[i + 1] = from_float<T>(float(radius * sin(angle)));
    }
  }
};
template <class T>
void noise(const call<T>& c) {
  const std::int64_t size = c.extent().size();
  each(c.stream(), "noise", (size + 3) / 4, draw_noise<T>{c.out(), size, noise_stream(c.g->name_of(c.id), 0), c.numbers});
}
template <class T>
struct drop_elements {
  const T* x;
  T* y;
  std::int64_t size;
  float rate, factor;
  int which;
  const run_numbers* numbers;
  __device__ void operator()(std::int64_t block) const {
    const philox_block words = philox(numbers->seed, dropout_stream(which, numbers->step), std::uint64_t(block));
    RSSEG_UNROLL
    for (int k = 0; k < 4; ++k) {
      const std::int64_t i = block * 4 + k;
      if (i < size) y[i] = unit_float(words.v[k]) < rate ? from_float<T>(0.0f) : from_float<T>(to_float(x[i]) * factor);
    }
  }
};
template <class T>
struct drop_channels {
  const T* x;
  T* y;
  int channels;
  std::int64_t image;
  float rate, factor;
  int which;
  const run_numbers* numbers;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t d = i / image * channels + i % channels;
    const philox_block b = philox(numbers->seed, dropout_stream(which, numbers->step), std::uint64_t(d >> 2));
    const std::uint32_t word = d & 2 ? (d & 1 ? b.v[3] : b.v[2]) : (d & 1 ? b.v[1] : b.v[0]);  // no indexing: words stay in registers
    y[i] = unit_float(word) < rate ? from_float<T>(0.0f) : from_float<T>(to_float(x[i]) * factor);
  }
};
template <class T>
void dropout_values(const call<T>& c) {
  const shape s = c.extent();
  const float rate = float(c.at().alpha), factor = float(1 / (1 - c.at().alpha));
  if (c.at().flag)
    each(c.stream(), "dropout of channels", s.size(),
         drop_channels<T>{c.in(0), c.out(), s.c, std::int64_t(s.h) * s.w * s.c, rate, factor, c.at().begin, c.numbers});
  else
    each(c.stream(), "dropout", (s.size() + 3) / 4, drop_elements<T>{c.in(0), c.out(), s.size(), rate, factor, c.at().begin, c.numbers});
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
