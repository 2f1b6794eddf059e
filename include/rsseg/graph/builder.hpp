// SPDX-License-Identifier: MIT
// The builder: what a layer's `build` appends nodes to. It keeps the scope of parameter names, infers channels, follows the
// down-sampling factor of every value and records the first wrong composition. All of it is constexpr; the same code
// lowers a network at compile time (class and band counts in the type) and at run time (counts from the data).
#pragma once
#include <type_traits>

#include "rsseg/graph/graph.hpp"

namespace rsseg {

/// Stands for a count that the data decides: UNet<from_data>.
inline constexpr int from_data = -1;

/// What the data and the purpose decide when a network is lowered.
struct build_options {
  int classes = 0;           ///< for layers written with from_data
  int bands = 0;             ///< of inputs written with from_data; 0 = 3
  bool training = false;     ///< batch statistics, dropout, auxiliary outputs
  bool freeze_norm = false;  ///< in training: normalise with the running statistics and leave them alone
  bool dropout = true;       ///< in training: false leaves dropout out (used to compare with references)
  static constexpr int most_modalities = 8;
  int modalities[most_modalities] = {};  ///< bands of each of several inputs that are stacked into one image; 0: no further one
};

namespace graph {

/// Extent of a value relative to the input: either h * num / den (up to rounding), or fixed.
struct scale_rule {
  int num = 1, den = 1;
  int fixed_h = 0, fixed_w = 0;  // > 0: independent of the input's size
  constexpr bool fixed() const { return fixed_h > 0; }
  constexpr scale_rule times(int up, int down) const {
    if (fixed()) return {1, 1, 0, 0};  // resolved only at a concrete size
    int n = num * up, d = den * down;
    for (int p = 2; p <= 7; ++p)
      while (n % p == 0 && d % p == 0) n /= p, d /= p;
    return {n, d, 0, 0};
  }
};

}  // namespace graph

/// A tensor inside a network under construction.
struct value {
  int id = -1;
  int channels = 0;  ///< -1: known only with the input's size (attention over pixels)
  graph::scale_rule scale;
  bool exact = true;  ///< scale is known; false after operators that depend on the concrete size
  constexpr bool valid() const { return id >= 0; }
};

namespace graph {

// A compile-time lowering that goes wrong calls one of these; each ends in a step that no compiler evaluates. So the message has the name
// of the fault and the line of the layer, and the numbers: clang prints the arguments of the call, g++ the operands of a shift that it refuses.
constexpr int stop_here(int expected, int given) {
  if (given == 0) return expected / given;
  return expected << (given > 0 ? -given : given);
}
constexpr int channels_do_not_match(int /*node*/, int expected, int given) { return stop_here(expected, given); }
constexpr int extents_do_not_match(int /*node*/, int expected_factor, int given_factor) { return stop_here(expected_factor, given_factor); }
constexpr int channels_not_divisible(int /*node*/, int divisor, int given) { return stop_here(divisor, given); }
constexpr int input_channels_are_unknown_here(int node) { return stop_here(node, 0); }
constexpr int option_out_of_range(int /*node*/, int limit, int given) { return stop_here(limit, given); }
constexpr int no_value_of_that_name(int node) { return stop_here(node, 0); }

class builder {
 public:
  constexpr explicit builder(const build_options& o = build_options{}, bool strict = false) : options_(o), strict_(strict) {
    prefix_begin_ = 0, prefix_length_ = 0;
  }

  graph g;

  constexpr const build_options& options() const { return options_; }
  constexpr bool training() const { return options_.training; }
  /// n, or the class count of the data when n is from_data.
  constexpr int classes(int n) const { return n == from_data ? options_.classes : n; }

  // --- names -------------------------------------------------------------------------------------------------------
  /// Enters a scope: parameters inside are called prefix.name.leaf. Use the guard `scope` below.
  constexpr int enter(std::string_view name) {
    const int saved = int(scopes_.size());
    scopes_.push_back(prefix_begin_);
    scopes_.push_back(prefix_length_);
    const int begin = g.text.size();
    g.text.append_own(prefix_begin_, prefix_length_);
    if (prefix_length_ > 0 && !name.empty()) g.text.push_back('.');
    g.text.append(name.data(), int(name.size()));
    prefix_begin_ = begin, prefix_length_ = g.text.size() - begin;
    return saved;
  }
  constexpr void leave(int saved) {
    prefix_begin_ = scopes_[saved], prefix_length_ = scopes_[saved + 1];
    scopes_.truncate(saved);
  }
  /// From here on, parameters that already exist by name are used again (shared weights), until set to false.
  constexpr bool reuse(bool on) {
    const bool before = reuse_;
    reuse_ = on;
    return before;
  }

  /// From here on, normalisation uses the running statistics and leaves them alone, also in training, until set to false.
  constexpr bool freeze_norm(bool on) {
    const bool before = options_.freeze_norm;
    options_.freeze_norm = on;
    return before;
  }

  // --- sources -----------------------------------------------------------------------------------------------------
  /// A network input of the given channels; from_data takes the band count of the data (3 if that is 0).
  constexpr value input(std::string_view name, int channels, scale_rule s = {}) {
    const int c = channels == from_data ? (options_.bands > 0 ? options_.bands : 3) : channels;
    attributes at;
    at.flag = channels == from_data;
    value v = emit(op::input, {}, c, s, at);
    name_node(v.id, name, false);
    return v;
  }
  /// A trainable tensor; dims as PyTorch writes them (out, in, kh, kw | in, out, kh, kw for transposed | out, in | c).
  constexpr value parameter(std::string_view leaf, std::initializer_list<int> dims, init how, double alpha = 0, double beta = 0) {
    return stored(op::parameter, leaf, dims, how, alpha, beta);
  }
  /// A tensor kept with the weights but not trained; starts at `start`.
  constexpr value buffer(std::string_view leaf, std::initializer_list<int> dims, double start) {
    return stored(op::buffer, leaf, dims, init::constant, start, 0);
  }

  // --- nodes -------------------------------------------------------------------------------------------------------
  constexpr value emit(op kind, std::initializer_list<int> inputs, int channels, scale_rule s, const attributes& at = attributes{},
                       bool exact = true) {
    return emit(kind, inputs.begin(), int(inputs.size()), channels, s, at, exact);
  }
  constexpr value emit(op kind, const int* inputs, int count, int channels, scale_rule s, const attributes& at = attributes{}, bool exact = true) {
    const int id = g.append(kind, inputs, count, channels, at);
    g.nodes[id].name = prefix_begin_, g.nodes[id].name_length = prefix_length_;
    return {id, channels, s, exact};
  }

  // --- results -----------------------------------------------------------------------------------------------------
  /// Declares an output. The first one is the map that `segment` writes.
  constexpr void output(std::string_view name, value v, double loss_weight = 0, label_rule labels = label_rule::resize_logits,
                        bool align_corners = false, bool train_only = false) {
    rsseg::graph::output o;
    o.node = v.id;
    o.name = put(name), o.name_length = int(name.size());
    o.loss_weight = loss_weight, o.labels = labels, o.align_corners = align_corners, o.train_only = train_only;
    g.outputs.push_back(o);
  }
  /// Adds weight * v, a scalar (1,1,1,1), to the training loss.
  constexpr void add_penalty(std::string_view name, value v, double weight = 1) {
    penalty p;
    p.node = v.id;
    p.name = put(name), p.name_length = int(name.size());
    p.weight = weight;
    g.penalties.push_back(p);
  }

  // --- named skips: Tap<"low"> / Use<"low"> --------------------------------------------------------------------------
  constexpr void set_tap(std::string_view name, value v) {
    tap t;
    t.name = put(name), t.length = int(name.size()), t.what = v;
    taps_.push_back(t);
  }
  constexpr value get_tap(std::string_view name) {
    for (int i = taps_.size() - 1; i >= 0; --i)
      if (g.text_at(taps_[i].name, taps_[i].length) == name) return taps_[i].what;
    fail(fault::unknown_name);
    return {};
  }

  // --- checks ------------------------------------------------------------------------------------------------------
  constexpr void fail(fault what, int expected = 0, int given = 0) {
    if (g.error.what != fault::none) return;
    g.error.what = what, g.error.node = g.nodes.size(), g.error.expected = expected, g.error.given = given;
    error_path_ = prefix_begin_, error_path_length_ = prefix_length_;
    if (strict_ && std::is_constant_evaluated()) {
      const int at = g.nodes.size();
      switch (what) {
        case fault::channels_differ:
          channels_do_not_match(at, expected, given);
          break;
        case fault::extents_differ:
          extents_do_not_match(at, expected, given);
          break;
        case fault::not_divisible:
          channels_not_divisible(at, expected, given);
          break;
        case fault::unknown_channels:
          input_channels_are_unknown_here(at);
          break;
        case fault::unknown_name:
          no_value_of_that_name(at);
          break;
        default:
          option_out_of_range(at, expected, given);
          break;
      }
    }
  }
  constexpr bool failed() const { return g.error.what != fault::none; }
  /// Scope in which the first error happened.
  constexpr std::string_view error_path() const { return g.text_at(error_path_, error_path_length_); }
  constexpr std::string_view path() const { return g.text_at(prefix_begin_, prefix_length_); }

  constexpr void require_channels(value v) {
    if (v.channels <= 0) fail(fault::unknown_channels);
  }
  /// a and b must have equal channels, as far as they are known.
  constexpr void require_same_channels(value a, value b) {
    if (a.channels >= 0 && b.channels >= 0 && a.channels != b.channels) fail(fault::channels_differ, a.channels, b.channels);
  }
  /// a and b must have the same down-sampling factor, as far as that is known.
  constexpr void require_same_scale(value a, value b) {
    if (!a.exact || !b.exact) return;
    if (a.scale.fixed() && b.scale.fixed()) {
      if (a.scale.fixed_h != b.scale.fixed_h) fail(fault::extents_differ, a.scale.fixed_h, b.scale.fixed_h);
      if (a.scale.fixed_w != b.scale.fixed_w) fail(fault::extents_differ, a.scale.fixed_w, b.scale.fixed_w);
    } else if (!a.scale.fixed() && !b.scale.fixed()) {
      if (a.scale.num * b.scale.den != b.scale.num * a.scale.den) {
        if (a.scale.num == 1 && b.scale.num == 1) fail(fault::extents_differ, a.scale.den, b.scale.den);
        fail(fault::extents_differ, a.scale.num * b.scale.den, b.scale.num * a.scale.den);
      }
    }
  }

 private:
  struct tap {
    int name = 0, length = 0;
    value what;
  };

  constexpr int put(std::string_view s) {
    const int begin = g.text.size();
    g.text.append(s.data(), int(s.size()));
    return begin;
  }
  constexpr void name_node(int id, std::string_view leaf, bool scoped) {
    const int begin = g.text.size();
    if (scoped) {
      g.text.append_own(prefix_begin_, prefix_length_);
      if (prefix_length_ > 0) g.text.push_back('.');
    }
    g.text.append(leaf.data(), int(leaf.size()));
    g.nodes[id].name = begin, g.nodes[id].name_length = g.text.size() - begin;
  }
  constexpr value stored(op kind, std::string_view leaf, std::initializer_list<int> dims, init how, double alpha, double beta) {
    attributes at;
    for (int d : dims) at.dims[at.rank++] = d;
    at.mode = int(how), at.alpha = alpha, at.beta = beta;
    const int channels = at.rank == 4 || at.rank == 2 ? at.dims[1] : at.rank == 1 ? at.dims[0] : 1;
    if (reuse_ || !std::is_constant_evaluated()) {  // at compile time a linear search per parameter would be felt
      const int before = g.text.size(), nodes = g.nodes.size();
      value v = emit(kind, {}, channels, {1, 1, 1, 1}, at);
      name_node(v.id, leaf, true);
      for (int i = 0; i < nodes; ++i) {
        if ((g.nodes[i].kind == op::parameter || g.nodes[i].kind == op::buffer) && g.name_of(i) == g.name_of(v.id)) {
          if (!reuse_) fail(fault::bad_option, 1, 2);  // two parameters of one name
          g.nodes.truncate(nodes);
          g.text.truncate(before);
          return {i, channels, {1, 1, 1, 1}, true};
        }
      }
      return v;
    }
    value v = emit(kind, {}, channels, {1, 1, 1, 1}, at);
    name_node(v.id, leaf, true);
    return v;
  }

  build_options options_;
  bool strict_;
  bool reuse_ = false;
  int prefix_begin_ = 0, prefix_length_ = 0;
  int error_path_ = 0, error_path_length_ = 0;
  list<int> scopes_;
  list<tap> taps_;
};

/// Guard of a name scope: `const scope s(b, "layer1");`
class scope {
 public:
  constexpr scope(builder& b, std::string_view name) : b_(b), saved_(b.enter(name)) {}
  constexpr ~scope() { b_.leave(saved_); }
  scope(const scope&) = delete;
  scope& operator=(const scope&) = delete;

 private:
  builder& b_;
  int saved_;
};

/// Guard of shared weights: inside, parameters that exist already are used again.
class shared_weights {
 public:
  constexpr explicit shared_weights(builder& b, bool on = true) : b_(b), before_(b.reuse(on)) {}
  constexpr ~shared_weights() { b_.reuse(before_); }
  shared_weights(const shared_weights&) = delete;
  shared_weights& operator=(const shared_weights&) = delete;

 private:
  builder& b_;
  bool before_;
};

/// Guard of frozen normalisation: inside, a part of the network behaves as in inference.
class frozen_norm {
 public:
  constexpr explicit frozen_norm(builder& b) : b_(b), before_(b.freeze_norm(true)) {}
  constexpr ~frozen_norm() { b_.freeze_norm(before_); }
  frozen_norm(const frozen_norm&) = delete;
  frozen_norm& operator=(const frozen_norm&) = delete;

 private:
  builder& b_;
  bool before_;
};

}  // namespace graph

using graph::builder;
using graph::frozen_norm;
using graph::label_rule;
using graph::scope;
using graph::shared_weights;

}  // namespace rsseg
