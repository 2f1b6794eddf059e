// SPDX-License-Identifier: MIT
// Layers made of layers. Seq numbers its children as torch.nn.Sequential does, so that parameter names agree with the public
// references; Chain does the same without names; Named gives one.
#pragma once
#include <concepts>
#include <cstddef>
#include <utility>

#include "rsseg/layers/types.hpp"

namespace rsseg {

/// A string as a template argument: Named<"layer1", ...>.
template <std::size_t N>
struct fixed_string {
  char text[N]{};
  constexpr fixed_string(const char (&s)[N]) {
    for (std::size_t i = 0; i < N; ++i) text[i] = s[i];
  }
  constexpr std::string_view view() const { return {text, N - 1}; }
};

namespace detail {
/// Scope "0", "1", ... "99".
class numbered_scope {
 public:
  constexpr numbered_scope(builder& b, int i) : b_(b), saved_(0) {
    char digits[3] = {char('0' + i / 10 % 10), char('0' + i % 10), 0};
    saved_ = b.enter(i < 10 ? std::string_view(digits + 1, 1) : std::string_view(digits, 2));
  }
  constexpr ~numbered_scope() { b_.leave(saved_); }

 private:
  builder& b_;
  int saved_;
};
}  // namespace detail

template <class... Layers>
struct Seq {
  static_assert((Layer<Layers> && ...), "Seq: every part must have `static constexpr value build(builder&, value)`");
  static constexpr value build(builder& b, value x) {
    int i = 0;
    ((x = numbered<Layers>(b, x, i++)), ...);
    return x;
  }

 private:
  template <class L>
  static constexpr value numbered(builder& b, value x, int i) {
    const detail::numbered_scope s(b, i);
    return L::build(b, x);
  }
};

template <class... Layers>
struct Chain {
  static_assert((Layer<Layers> && ...), "Chain: every part must have `static constexpr value build(builder&, value)`");
  static constexpr value build(builder& b, value x) {
    ((x = Layers::build(b, x)), ...);
    return x;
  }
};

template <fixed_string Name, class L>
struct Named {
  static constexpr value build(builder& b, value x) {
    const scope s(b, Name.view());
    return L::build(b, x);
  }
};

/// L, N times, numbered from 0.
template <int N, class L>
struct Repeat {
  static constexpr value build(builder& b, value x) {
    for (int i = 0; i < N; ++i) {
      const detail::numbered_scope s(b, i);
      x = L::build(b, x);
    }
    return x;
  }
};

/// Body(x) + Shortcut(x).
template <class Body, class Shortcut = Identity>
struct Residual {
  static constexpr value build(builder& b, value x) {
    const value y = Body::build(b, x);
    return add(b, y, Shortcut::build(b, x));
  }
};

/// The branches of x side by side in the channels.
template <class... Branches>
struct Concat {
  static constexpr value build(builder& b, value x) {
    const value parts[] = {Branches::build(b, x)...};
    return graph::ops::concat(b, parts, int(sizeof...(Branches)));
  }
};

/// The sum of the branches of x.
template <class... Branches>
struct Sum {
  static constexpr value build(builder& b, value x) {
    const value parts[] = {Branches::build(b, x)...};
    return graph::ops::add(b, parts, int(sizeof...(Branches)));
  }
};

/// Remembers x under a name, for Use and ResizeTo further on.
template <fixed_string Name>
struct Tap {
  static constexpr value build(builder& b, value x) {
    b.set_tap(Name.view(), x);
    return x;
  }
};
/// The value of a Tap, instead of x.
template <fixed_string Name>
struct Use {
  static constexpr value build(builder& b, value) { return b.get_tap(Name.view()); }
};
/// x resized to the extent of a Tap. "input" is the network's input.
template <fixed_string Name, bool AlignCorners = false>
struct ResizeTo {
  static constexpr value build(builder& b, value x) { return resize_like(b, x, b.get_tap(Name.view()), AlignCorners); }
};

}  // namespace rsseg
