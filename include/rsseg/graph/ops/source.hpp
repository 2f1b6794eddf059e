// SPDX-License-Identifier: MIT
// Values that come from nowhere: constants and normal noise, with the extent of another value.
// Attributes: constant: alpha = the value of every element.
#pragma once
#include "rsseg/graph/builder.hpp"

namespace rsseg::graph::ops {

/// Every element = alpha, extent of `like`.
constexpr value constant_like(builder& b, value like, double alpha) {
  attributes at;
  at.alpha = alpha;
  return b.emit(op::constant, {like.id}, like.channels, like.scale, at, like.exact);
}
/// A row (1,channels,1,1) of alpha.
constexpr value constant_row(builder& b, int channels, double alpha) {
  attributes at;
  at.alpha = alpha;
  return b.emit(op::constant, {}, channels, {1, 1, 1, 1}, at);
}
/// Independent standard normal numbers with the extent of `like`. The stream is that of the current scope: give every draw a scope of its own.
constexpr value noise(builder& b, value like) { return b.emit(op::noise, {like.id}, like.channels, like.scale, {}, like.exact); }

}  // namespace rsseg::graph::ops
