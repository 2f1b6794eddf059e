// SPDX-License-Identifier: MIT
// A graph: flat arrays of nodes, edges and text. The same structure is built in constant evaluation and at run time.
#pragma once
#include <initializer_list>
#include <string_view>

#include "rsseg/graph/list.hpp"
#include "rsseg/graph/node.hpp"

namespace rsseg::graph {

/// What was wrong with a composition; the numbers are in graph_error.
enum class fault : std::uint8_t {
  none,
  channels_differ,           // expected, given: channel counts
  extents_differ,            // expected, given: height or width (or the down-sampling factor, when sizes are symbolic)
  not_divisible,             // given must be a multiple of expected
  kernel_larger_than_input,  // expected: kernel extent, given: padded input extent
  unknown_channels,          // a layer that needs its input channels at build time got a value without
  bad_option,                // an option out of its range
  unknown_name,              // a tap that nobody set
  input_size_not_allowed,    // expected: a legal extent near by, given: the extent
};

struct graph_error {
  fault what = fault::none;
  int node = -1;
  int expected = 0, given = 0;
};

/// How the loss compares an output with labels of another size.
enum class label_rule : std::uint8_t {
  resize_logits,    // logits are brought to the labels' size, bilinearly
  resize_labels,    // labels are brought to the logits' size, by nearest neighbour
  crop_labels,      // the centre of the labels is compared (valid convolutions)
  boundaries,       // one channel, compared with the class boundaries of the labels (1 on a line 3 pixels wide, else 0) by loss_options.edge
  soft_boundaries,  // the same line, blurred: a Euclidean loss against numbers from 0 to 1
};

struct output {
  int node = -1;
  int name = 0, name_length = 0;  // in graph.text
  double loss_weight = 0;         // 0: not supervised (or by the network's own loss only)
  bool train_only = false;
  label_rule labels = label_rule::resize_logits;
  bool align_corners = false;  // for resize_logits
};

/// A scalar (1,1,1,1) added to the loss with a weight.
struct penalty {
  int node = -1;
  int name = 0, name_length = 0;
  double weight = 1;
};

struct graph {
  list<node> nodes;  // in topological order: inputs of a node come before it
  list<int> edges;
  list<char> text;
  list<output> outputs;
  list<penalty> penalties;
  list<int> roots;      // nodes to run for their effect (bn_update) or as gradients
  list<int> gradients;  // pairs (parameter node, gradient node); filled by differentiate()
  int loss = -1;        // node of the total loss, in a training graph
  graph_error error;

  /// Appends a node; returns its number.
  constexpr int append(op kind, std::initializer_list<int> inputs, int channels, const attributes& at = attributes{}) {
    return append(kind, inputs.begin(), int(inputs.size()), channels, at);
  }
  constexpr int append(op kind, const int* inputs, int count, int channels, const attributes& at = attributes{}) {
    node n;
    n.kind = kind;
    n.first_input = edges.size();
    n.input_count = count;
    n.channels = channels;
    n.at = at;
    for (int i = 0; i < count; ++i) edges.push_back(inputs[i]);
    nodes.push_back(n);
    return nodes.size() - 1;
  }
  constexpr int input_of(int id, int k) const { return edges[nodes[id].first_input + k]; }
  constexpr int& input_of(int id, int k) { return edges[nodes[id].first_input + k]; }
  constexpr std::string_view name_of(int id) const { return text_at(nodes[id].name, nodes[id].name_length); }
  constexpr std::string_view name_of(const output& o) const { return text_at(o.name, o.name_length); }
  constexpr std::string_view name_of(const penalty& p) const { return text_at(p.name, p.name_length); }
  constexpr std::string_view text_at(int begin, int length) const {
    return begin < 0 || length == 0 ? std::string_view() : std::string_view(text.begin() + begin, std::size_t(length));
  }
  /// Node of the parameter, buffer or input of that name, or -1.
  constexpr int find(std::string_view name) const {
    for (int i = 0; i < nodes.size(); ++i)
      if (nodes[i].name_length == int(name.size()) && name_of(i) == name) return i;
    return -1;
  }
  constexpr int find_output(std::string_view name) const {
    for (int i = 0; i < outputs.size(); ++i)
      if (name_of(outputs[i]) == name) return i;
    return -1;
  }
};

}  // namespace rsseg::graph
