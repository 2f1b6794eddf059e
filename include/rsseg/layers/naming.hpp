// SPDX-License-Identifier: MIT
// Scopes with a number in their name: "block3", "12". References number their layers, so builds written as loops need these.
// Also batch norm whose statistics and affine part are constants (the frozen norm of detection backbones).
#pragma once
#include "rsseg/layers/basic.hpp"

namespace rsseg {

/// A name made of text and number, on the stack: numbered("block", 3) is "block3"; numbered("down", 1, ".conv") is "down1.conv".
struct numbered {
  char text[48] = {};
  int length = 0;
  constexpr numbered(std::string_view prefix, int number, std::string_view suffix = "") {
    append(prefix);
    char digits[12] = {};
    int n = 0;
    do digits[n++] = char('0' + number % 10), number /= 10;
    while (number > 0);
    while (n > 0) text[length++] = digits[--n];
    append(suffix);
  }
  constexpr operator std::string_view() const { return {text, std::size_t(length)}; }

 private:
  constexpr void append(std::string_view s) {
    for (char c : s)
      if (length < 36) text[length++] = c;
  }
};

namespace detail {
/// Guard of the scope prefix + number.
class counted_scope {
 public:
  constexpr counted_scope(builder& b, std::string_view prefix, int number) : guard_(b, numbered(prefix, number)) {}

 private:
  scope guard_;
};
}  // namespace detail

/// Batch norm that never learns: running statistics even in training, `weight` and `bias` get no gradient.
/// gamma_start: what `weight` is until trained weights are loaded.
constexpr value frozen_batch_norm(builder& b, value x, double eps = 1e-5, double gamma_start = 1) {
  b.require_channels(x);
  const value gamma = graph::ops::stop_gradient(b, b.parameter("weight", {x.channels}, graph::init::constant, gamma_start));
  const value beta = graph::ops::stop_gradient(b, b.parameter("bias", {x.channels}, graph::init::constant, 0));
  const value mean = b.buffer("running_mean", {x.channels}, 0), var = b.buffer("running_var", {x.channels}, 1);
  graph::attributes at;
  at.alpha = eps, at.flag = true;
  const value stats = b.emit(graph::op::bn_pair, {mean.id, var.id}, x.channels, {1, 1, 2, 1});
  return b.emit(graph::op::bn_apply, {x.id, stats.id, gamma.id, beta.id}, x.channels, x.scale, at, x.exact);
}

}  // namespace rsseg
