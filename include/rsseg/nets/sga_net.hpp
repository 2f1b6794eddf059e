// SPDX-License-Identifier: MIT
// SGA-Net (Zi, Xiong, Chen, Li, Jing, Remote Sensing 13(21):4201, 2021): graph attention on a graph that the features construct
// themselves, beside linear attention between channels.
//   ResNet-50 to c4                                                                                          (N,1024,H/16,W/16)
//   four views of c4 (quarter turns), shared weights: self-constructed graph on Nodes x Nodes regions -> GAT 8 heads x 16, ELU -> GAT to K,
//   plus the graph's residual prediction; turned back and summed                                              (N,K,Nodes,Nodes)
//   + 1x1(channel linear attention(c4)) (N,K,H/16,W/16) -> bilinear to the input
//   loss: cross entropy + the graph's regulariser of every view (training draws z = mu + sigma * noise)
// No public code: built from the abstract, SCG-Net / MSCG-Net and the linear attention reference. Ours: quarter turns as views, edge
// weights as log prior of the attention, two GAT layers, the parallel channel branch.
#pragma once
#include "rsseg/layers/attention.hpp"
#include "rsseg/layers/graph_attention.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

template <int Classes = from_data, int Nodes = 32, int Heads = 8, int HeadWidth = 16>
struct SGANet {
  static constexpr int views = 4;
  /// Scores (N,K,H,W) of x and the sum of the regularisers (1,1,1,1).
  static constexpr value scores(builder& b, value x, value& regulariser) {
    resnet_options o = resnet_of_depth(50);
    o.stages = 3;
    o.names.stem_conv[0] = "stem.0", o.names.stem_norm[0] = "stem.1";
    const value f = resnet(b, x, o).c4;
    value predictions[views], penalties[views];
    for (int v = 0; v < views; ++v) {
      const shared_weights shared(b, v > 0);
      predictions[v] = view(b, v == 0 ? f : graph::ops::rotate(b, f, v), v, penalties[v]);
    }
    regulariser = graph::ops::add(b, penalties, views);
    value channels;
    {
      const scope s(b, "cla");
      channels = channel_linear_attention(b, f);
    }
    const value nodes = resize_like(b, graph::ops::add(b, predictions, views), f);
    return resize_like(b, add(b, nodes, conv(b, "cls", channels, b.classes(Classes))), x);
  }
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value regulariser;
    b.output("logits", scores(b, x, regulariser), 1);
    b.add_penalty("graph", regulariser);
  }

 private:
  static constexpr value view(builder& b, value f, int v, value& penalty) {
    const int k = b.classes(Classes);
    constructed_graph g;
    {
      const scope s(b, "scg");
      g = self_constructing_graph(b, f, k, Nodes, Nodes, v);
    }
    penalty = g.regulariser;
    const value prior = log_adjacency(b, g.adjacency);
    value y;
    {
      const scope s(b, "gat1");
      y = elu(b, graph_attention(b, g.nodes, prior, Heads, HeadWidth, true));
    }
    {
      const scope s(b, "gat2");
      y = graph_attention(b, y, prior, 1, k, false);
    }
    y = add(b, y, g.prediction);
    return v == 0 ? y : graph::ops::rotate(b, y, -v);
  }
};

inline constexpr network_entry sga_net_networks[] = {
    {"sga-net", "SGA-Net", "Zi et al., Remote Sensing 2021",
     "graph attention on a self-constructed 32x32 graph, channel linear attention; rebuilt from the abstract", &SGANet<>::build,
     recipe{"adam", 8.66e-5, 0.9, 2e-5, "cosine", 10, 512}, 1, 0, 16},
    {"sga-net-16", "SGA-Net", "Zi et al., Remote Sensing 2021", "as sga-net on a 16x16 graph (ours, for small crops)", &SGANet<from_data, 16>::build,
     recipe{"adam", 8.66e-5, 0.9, 2e-5, "cosine", 10, 256}, 1, 0, 16},
};

}  // namespace rsseg
