// SPDX-License-Identifier: MIT
// A network is a type with `static constexpr void build(builder&)` that declares inputs and outputs; Network makes one of a
// layer. What is known about it at compile time: parameter_count, output_of, macs_of, receptive_field_of, live_bytes_of,
// graph_of. All of them can stand in a static_assert.
#pragma once
#include "rsseg/graph/facts.hpp"
#include "rsseg/graph/training.hpp"
#include "rsseg/layers/combinators.hpp"

namespace rsseg {

/// A network with one input "x" of the data's bands and one output "logits", both tapped ("input").
template <class Body, int Bands = from_data>
struct Network {
  static constexpr void build(builder& b) {
    static_assert(Layer<Body>, "Network: its body must have `static constexpr value build(builder&, value)`");
    const value x = b.input("x", Bands);
    b.set_tap("input", x);
    b.output("logits", Body::build(b, x), 1);
  }
};

template <class N>
concept NetworkType = requires(builder& b) {
  N::build(b);
};

/// Net with another number of input bands than 3.
template <int Bands, NetworkType Net>
struct WithBands {
  static constexpr int bands = Bands;
  static constexpr void build(builder& b) { Net::build(b); }
};

namespace detail {
template <class Net>
constexpr build_options options_of(bool training) {
  build_options o;
  o.training = training;
  if constexpr (requires { Net::bands; }) o.bands = Net::bands;
  return o;
}
/// Lowers Net; strict: a wrong composition stops the compiler at the layer that made it.
template <class Net>
constexpr graph::graph lower(bool training, bool strict) {
  builder b(options_of<Net>(training), strict);
  Net::build(b);
  return static_cast<graph::graph&&>(b.g);
}
}  // namespace detail

/// The scope of a layer in a compiler's message: LAYER<'u', 'p', '1'>.
template <char... Scope>
struct LAYER {};
/// A wrong composition shows here with its numbers: what, node, expected, given, and the scope of the layer.
template <graph::fault What, int Node, int Expected, int Given, class Layer>
struct GRAPH_ERROR {
  static constexpr bool ok = What == graph::fault::none;
#if defined(__CUDACC__)  // nvcc prints the arguments of a template that it instantiates, not those of a condition
  static_assert(ok, "GRAPH_ERROR<what, node, expected, given, layer>");
#endif
};

namespace detail {
struct composition {
  graph::graph_error error;
  char scope[48]{};
  int length = 0;
};
template <class Net>
inline constexpr composition composition_of = [] {
  builder b(options_of<Net>(false), false);
  Net::build(b);
  composition c;
  c.error = b.g.error;
  if (b.failed())
    for (char letter : b.error_path())
      if (c.length < 48) c.scope[c.length++] = letter;
  return c;
}();
template <class Net, std::size_t... I>
constexpr LAYER<composition_of<Net>.scope[I]...> layer_at_fault(std::index_sequence<I...>);
}  // namespace detail

/// True if Net is well composed; fails to compile with the numbers, and with the layer, if not.
template <NetworkType Net>
constexpr bool well_composed() {
  constexpr graph::graph_error e = detail::composition_of<Net>.error;
  using layer = decltype(detail::layer_at_fault<Net>(std::make_index_sequence<std::size_t(detail::composition_of<Net>.length)>()));
  static_assert(GRAPH_ERROR<e.what, e.node, e.expected, e.given, layer>::ok,
                "the network is not well composed; GRAPH_ERROR<what, node, expected, given, layer>");
  if constexpr (e.what != graph::fault::none) {
    constexpr int nodes = detail::lower<Net>(false, true).nodes.size();  // names the line of the layer
    return nodes > 0;
  }
  return true;
}

/// Number of trained values.
template <NetworkType Net>
inline constexpr std::int64_t parameter_count = graph::parameter_count(detail::lower<Net>(true, true));

/// Extent of output number `which` for an input of extent `in` (all inputs, if there are several: give each).
template <NetworkType Net, class... Shapes>
constexpr shape output_of(shape in, Shapes... more) {
  const shape all[] = {in, more...};
  return graph::output_extent(detail::lower<Net>(false, true), all, 1 + int(sizeof...(more)), 0);
}
/// Multiply-adds of one inference.
template <NetworkType Net, class... Shapes>
constexpr std::int64_t macs_of(shape in, Shapes... more) {
  const shape all[] = {in, more...};
  return graph::total_macs(detail::lower<Net>(false, true), all, 1 + int(sizeof...(more)));
}
/// Extent of the input region that one output pixel sees, in pixels, for an input of extent `in`.
template <NetworkType Net, class... Shapes>
constexpr graph::receptive_field receptive_field_of(shape in, Shapes... more) {
  const shape all[] = {in, more...};
  return graph::receptive_field_of(detail::lower<Net>(false, true), all, 1 + int(sizeof...(more)));
}
/// Largest sum of values alive at once during one inference, in bytes of float: a lower bound of the arena.
template <NetworkType Net, class... Shapes>
constexpr std::int64_t live_bytes_of(shape in, Shapes... more) {
  const shape all[] = {in, more...};
  return graph::live_bytes(detail::lower<Net>(false, true), all, 1 + int(sizeof...(more)), 4);
}

/// A graph of fixed size in static storage: what lowering yields, kept by the compiler.
template <int Nodes, int Edges, int Text, int Outputs>
struct static_graph {
  graph::node nodes[Nodes > 0 ? Nodes : 1];
  int edges[Edges > 0 ? Edges : 1]{};
  char text[Text > 0 ? Text : 1]{};
  graph::output outputs[Outputs > 0 ? Outputs : 1];
  int loss = -1;
  static constexpr int node_count = Nodes, output_count = Outputs;
  constexpr std::string_view name_of(int id) const {
    return nodes[id].name < 0 ? std::string_view() : std::string_view(text + nodes[id].name, std::size_t(nodes[id].name_length));
  }
  constexpr int input_of(int id, int k) const { return edges[nodes[id].first_input + k]; }
};

namespace detail {
template <class Net, bool Training>
constexpr graph::graph lower_for(int) {
  graph::graph g = lower<Net>(Training, true);
  if (Training)
    graph::make_training_graph(g);
  else
    graph::prune(g, false);
  return g;
}
struct graph_sizes {
  int nodes, edges, text, outputs;
};
template <class Net, bool Training>
inline constexpr graph_sizes sizes_of = [] {
  const graph::graph g = lower_for<Net, Training>(0);
  return graph_sizes{g.nodes.size(), g.edges.size(), g.text.size(), g.outputs.size()};
}();
template <class Net, bool Training>
constexpr auto freeze() {
  constexpr graph_sizes z = sizes_of<Net, Training>;
  static_graph<z.nodes, z.edges, z.text, z.outputs> s;
  const graph::graph g = lower_for<Net, Training>(0);
  for (int i = 0; i < z.nodes; ++i) s.nodes[i] = g.nodes[i];
  for (int i = 0; i < z.edges; ++i) s.edges[i] = g.edges[i];
  for (int i = 0; i < z.text; ++i) s.text[i] = g.text[i];
  for (int i = 0; i < z.outputs; ++i) s.outputs[i] = g.outputs[i];
  s.loss = g.loss;
  return s;
}
}  // namespace detail

/// The inference graph of Net as a constexpr table, before any fusion.
template <NetworkType Net>
inline constexpr auto graph_of = detail::freeze<Net, false>();
/// The graph of one training step with cross entropy: forward, loss, gradients. Built and differentiated by the compiler.
template <NetworkType Net>
inline constexpr auto training_graph_of = detail::freeze<Net, true>();

}  // namespace rsseg
