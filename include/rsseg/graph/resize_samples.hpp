// SPDX-License-Identifier: MIT
// Where a resize reads along one axis, in double precision: the tables that every backend's resize and its adjoint work from
// (graph/ops/resize.hpp gives the rules). The adjoint gathers: since positions grow with the output index, the outputs that read one input
// position are one interval.
#pragma once
#include <cstdint>

#include "rsseg/graph/ops/resize.hpp"

namespace rsseg::graph {

/// An output reads (1 - f) * in[low] + f * in[high].
template <class Real>
struct axis_sample {
  int low, high;
  Real f;
};
/// Outputs [first, last) that read an input position.
struct axis_readers {
  int first, last;
};

/// What output i of `out` reads from an axis of `in` positions.
template <class Real>
inline axis_sample<Real> sample_of_axis(const attributes& a, int i, int in, int out) {
  if (interpolation(a.mode) == interpolation::nearest) {
    std::int64_t low = a.alpha > 0 ? std::int64_t(double(i) * a.alpha) : std::int64_t(i) * in / out;
    if (low > in - 1) low = in - 1;
    return {int(low), int(low), 0};
  }
  double at;
  if (a.flag)
    at = out > 1 ? double(i) * (in - 1) / (out - 1) : 0;
  else
    at = (i + 0.5) * (a.alpha > 0 ? a.alpha : double(in) / out) - 0.5;
  if (at < 0) at = 0;
  int low = int(at);
  if (low > in - 1) low = in - 1;
  const int high = low + 1 < in ? low + 1 : low;
  return {low, high, high > low ? Real(at - low) : Real(0)};
}

/// table[0..out): what each output reads.
template <class Real>
inline void fill_samples(const attributes& a, int in, int out, axis_sample<Real>* table) {
  for (int i = 0; i < out; ++i) table[i] = sample_of_axis<Real>(a, i, in, out);
}
/// r[0..in): who reads each input; an empty interval where nobody does.
template <class Real>
inline void fill_readers(const axis_sample<Real>* table, int in, int out, axis_readers* r) {
  for (int i = 0; i < in; ++i) r[i] = {out, 0};
  const auto add = [&](int at, int i) {
    if (i < r[at].first) r[at].first = i;
    if (i + 1 > r[at].last) r[at].last = i + 1;
  };
  for (int i = 0; i < out; ++i) add(table[i].low, i), add(table[i].high, i);
}

}  // namespace rsseg::graph
