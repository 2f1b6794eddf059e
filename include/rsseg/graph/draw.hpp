// SPDX-License-Identifier: MIT
// Drawings and tables of a graph: Graphviz, Mermaid, and the rows that `describe` prints. Nodes are grouped by the first components of
// their scope, so that a figure shows the blocks of the paper and not hundreds of operators.
#pragma once
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "rsseg/graph/custom.hpp"
#include "rsseg/graph/facts.hpp"

namespace rsseg::graph {

inline const char* name_of(op kind) {
  switch (kind) {
    case op::input:
      return "input";
    case op::conv:
      return "conv";
    case op::conv_transpose:
      return "transposed conv";
    case op::bn_apply:
      return "batch norm";
    case op::group_apply:
      return "group norm";
    case op::l2_normalize:
      return "l2 norm";
    case op::max_pool:
    case op::pick:
      return "max pool";
    case op::place:
      return "unpool";
    case op::avg_pool:
      return "average pool";
    case op::adaptive_avg_pool:
      return "adaptive pool";
    case op::resize:
      return "resize";
    case op::unary:
      return "activation";
    case op::prelu:
      return "PReLU";
    case op::add:
      return "add";
    case op::mul:
      return "multiply";
    case op::maximum:
      return "maximum";
    case op::affine:
      return "scale";
    case op::dropout:
      return "dropout";
    case op::reduce:
      return "reduce";
    case op::concat:
      return "concat";
    case op::slice:
      return "slice";
    case op::pad_crop:
      return "pad/crop";
    case op::rotate:
      return "rotate";
    case op::reshape:
      return "reshape";
    case op::matmul:
      return "matrix product";
    case op::transpose:
      return "transpose";
    case op::softmax:
      return "softmax";
    case op::log_softmax:
      return "log softmax";
    case op::diagonal:
    case op::add_diagonal:
      return "diagonal";
    case op::batch_concat:
      return "batch concat";
    case op::batch_slice:
      return "batch slice";
    case op::custom:
      return "custom";
    case op::noise:
      return "noise";
    case op::broadcast_like:
      return "broadcast";
    case op::reduce_like:
      return "reduce";
    case op::stop_gradient:
      return "stop gradient";
    default:
      return "";
  }
}

/// One box of a drawing: nodes of one scope.
struct block {
  std::string name;  // scope, or the operator's name outside of any
  std::vector<int> nodes;
  std::string what;  // "conv 3x3 64, batch norm, activation"
  shape out;
  std::int64_t parameters = 0, macs = 0;
};

struct block_graph {
  std::vector<block> blocks;
  std::vector<std::pair<int, int>> edges;  // between blocks, each once
};

namespace detail {
inline std::string scope_of(std::string_view path, int depth) {
  std::size_t end = 0;
  for (int d = 0; d < depth; ++d) {
    const std::size_t dot = path.find('.', end == 0 ? 0 : end + 1);
    if (dot == path.npos) return std::string(path);
    end = dot;
  }
  return std::string(path.substr(0, end));
}
inline bool drawn(op kind) {
  return !is_stored(kind) && kind != op::bn_pair && kind != op::bn_stats && kind != op::group_stats && kind != op::bn_update &&
         kind != op::argmax_pool && kind != op::target && kind != op::constant && kind != op::fold_weights && kind != op::fold_bias;
}
/// Operands that give nothing but their extent.
inline bool only_extent(const node& n, int operand) {
  return ((n.kind == op::resize || n.kind == op::pad_crop || n.kind == op::reshape) && operand == 1) || (n.kind == op::place && operand == 2) ||
         n.kind == op::noise || n.kind == op::constant;
}
inline std::string brief(const graph& g, int id) {
  const node& n = g.nodes[id];
  std::string s = name_of(n.kind);
  if (n.kind == op::conv || n.kind == op::conv_transpose) {
    s += " " + std::to_string(n.at.kernel_h) + "x" + std::to_string(n.at.kernel_w);
    if (n.at.stride_h > 1) s += " /" + std::to_string(n.at.stride_h);
    if (n.at.dilation_h > 1) s += " rate " + std::to_string(n.at.dilation_h);
    if (n.at.groups > 1) s += n.at.groups == n.at.count ? " depthwise" : " groups " + std::to_string(n.at.groups);
  }
  if (n.kind == op::unary) {
    static const char* names[] = {"ReLU", "ReLU6",  "leaky ReLU", "ELU",    "sigmoid", "tanh",  "exp",   "log",
                                  "sqrt", "1/sqrt", "1/x",        "square", "abs",     "clamp", "clamp", "sign"};
    s = names[n.at.mode];
  }
  if (n.kind == op::adaptive_avg_pool) s += " " + std::to_string(n.at.bins_h) + "x" + std::to_string(n.at.bins_w);
  if (n.kind == op::custom) s = n.at.custom->name;
  if (n.kind == op::resize) s = interpolation(n.at.mode) == interpolation::nearest ? "nearest resize" : "bilinear resize";
  return s;
}
}  // namespace detail

/// Groups the nodes that inference needs by the first `depth` components of their scope.
inline block_graph blocks_of(const graph& g, const shape* s, int depth) {
  block_graph out;
  const list<unsigned char> need = needed_nodes(g, false);
  std::vector<int> block_of(std::size_t(g.nodes.size()), -1);
  std::map<std::string, int> by_name;
  std::vector<std::int64_t> own(std::size_t(g.nodes.size()), 0);
  std::vector<bool> counted(std::size_t(g.nodes.size()), false);
  for (int id = 0; id < g.nodes.size(); ++id) {
    const node& n = g.nodes[id];
    if (!need[id] || !detail::drawn(n.kind)) continue;
    const std::string path(g.name_of(id));
    const std::string scope = n.kind == op::input ? path : detail::scope_of(path, depth);
    int b = -1;
    if (!scope.empty() && n.kind != op::input) {
      const auto it = by_name.find(scope);
      // A scope that is entered again after others have run in between would draw a cycle: a new box then.
      if (it != by_name.end()) {
        bool later = false;
        for (int k = 0; k < n.input_count; ++k)
          if (block_of[std::size_t(g.input_of(id, k))] > it->second) later = true;
        if (!later) b = it->second;
      }
    }
    if (b < 0) {
      // Operators outside of any scope join the box before them if they only follow it.
      if (scope.empty() && n.input_count == 1 && block_of[std::size_t(g.input_of(id, 0))] >= 0 &&
          (n.kind == op::unary || n.kind == op::dropout || n.kind == op::affine || n.kind == op::reshape || n.kind == op::bn_apply) &&
          !out.blocks[std::size_t(block_of[std::size_t(g.input_of(id, 0))])].name.empty() && g.nodes[g.input_of(id, 0)].kind != op::input) {
        b = block_of[std::size_t(g.input_of(id, 0))];
      } else {
        b = int(out.blocks.size());
        out.blocks.push_back({scope.empty() ? detail::brief(g, id) : scope, {}, "", {}, 0, 0});
        if (!scope.empty() && n.kind != op::input) by_name[scope] = b;
      }
    }
    block& at = out.blocks[std::size_t(b)];
    at.nodes.push_back(id);
    at.out = s[id];
    at.macs += macs_of(g, id, s);
    block_of[std::size_t(id)] = b;
    for (int k = 0; k < n.input_count; ++k) {
      const int in = g.input_of(id, k);
      if (g.nodes[in].kind == op::parameter && !counted[std::size_t(in)])
        counted[std::size_t(in)] = true, at.parameters += stored_shape(g.nodes[in].at).size();
      // Look through nodes that are not drawn (statistics, indices) to what feeds them.
      int from = block_of[std::size_t(in)];
      if (from < 0 && !is_stored(g.nodes[in].kind) && g.nodes[in].input_count > 0) from = block_of[std::size_t(g.input_of(in, 0))];
      if (detail::only_extent(n, k)) continue;
      if (from >= 0 && from != b && std::find(out.edges.begin(), out.edges.end(), std::pair{from, b}) == out.edges.end())
        out.edges.push_back({from, b});
    }
  }
  for (block& b : out.blocks) {
    std::vector<std::pair<std::string, int>> counts;
    for (int id : b.nodes) {
      const std::string t = detail::brief(g, id);
      if (b.nodes.size() > 1 && (t.empty() || g.nodes[id].kind == op::stop_gradient)) continue;
      const auto it = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == t; });
      if (it == counts.end())
        counts.push_back({t, 1});
      else
        ++it->second;
    }
    for (std::size_t i = 0; i < counts.size() && i < 4; ++i)
      b.what += (i ? ", " : "") + (counts[i].second > 1 ? std::to_string(counts[i].second) + " x " : "") + counts[i].first;
    if (counts.size() > 4) b.what += ", ...";
  }
  return out;
}

/// The depth at which a drawing has at most `most` boxes (at least 1).
inline int drawing_depth(const graph& g, const shape* s, int most = 40) {
  int depth = 1;
  while (depth < 8 && int(blocks_of(g, s, depth + 1).blocks.size()) <= most &&
         blocks_of(g, s, depth + 1).blocks.size() > blocks_of(g, s, depth).blocks.size())
    ++depth;
  return depth;
}

inline std::string extent_text(const shape& s) { return std::to_string(s.c) + " x " + std::to_string(s.h) + " x " + std::to_string(s.w); }

/// Graphviz source of the grouped graph.
inline std::string to_dot(const graph& g, const shape* s, const std::string& title, int depth = 0) {
  const block_graph b = blocks_of(g, s, depth > 0 ? depth : drawing_depth(g, s));
  std::string t = "digraph network {\n  label=\"" + title + "\"; labelloc=t; fontname=\"Helvetica\"; fontsize=18;\n";
  t += "  node [shape=box, style=\"rounded,filled\", fillcolor=\"#eef3f8\", color=\"#44607c\", fontname=\"Helvetica\", fontsize=11];\n  edge "
       "[color=\"#44607c\", arrowsize=0.7];\n";
  for (std::size_t i = 0; i < b.blocks.size(); ++i) {
    const block& k = b.blocks[i];
    const bool source = k.nodes.size() == 1 && g.nodes[k.nodes[0]].kind == op::input;
    bool result = false;
    for (const output& o : g.outputs) result = result || (!o.train_only && std::find(k.nodes.begin(), k.nodes.end(), o.node) != k.nodes.end());
    const bool join = k.parameters == 0 && !source;
    t += "  n" + std::to_string(i) + " [label=\"" + k.name + (k.what.empty() || k.what == k.name || source ? "" : "\\n" + k.what) + "\\n" +
         extent_text(k.out) + "\"";
    if (source)
      t += ", fillcolor=\"#d9ead3\"";
    else if (result)
      t += ", fillcolor=\"#f9d9c0\"";
    else if (join)
      t += ", fillcolor=\"#ffffff\"";
    t += "];\n";
  }
  for (const auto& [from, to] : b.edges) t += "  n" + std::to_string(from) + " -> n" + std::to_string(to) + ";\n";
  return t + "}\n";
}

/// Mermaid source of the same.
inline std::string to_mermaid(const graph& g, const shape* s, int depth = 0) {
  const block_graph b = blocks_of(g, s, depth > 0 ? depth : drawing_depth(g, s));
  std::string t = "flowchart TD\n";
  for (std::size_t i = 0; i < b.blocks.size(); ++i)
    t += "  n" + std::to_string(i) + "[\"" + b.blocks[i].name + "<br/>" + b.blocks[i].what + "<br/>" + extent_text(b.blocks[i].out) + "\"]\n";
  for (const auto& [from, to] : b.edges) t += "  n" + std::to_string(from) + " --> n" + std::to_string(to) + "\n";
  return t;
}

}  // namespace rsseg::graph
