// SPDX-License-Identifier: MIT
// What operators are called in tables of times and in messages: each has its own name. (Drawings have coarser words: draw.hpp.)
#pragma once
#include <cstddef>

#include "rsseg/graph/node.hpp"

namespace rsseg::graph {

/// In the order of graph::op.
inline constexpr const char* op_names[] = {"input",
                                           "parameter",
                                           "buffer",
                                           "target",
                                           "noise",
                                           "constant",
                                           "conv",
                                           "conv transpose",
                                           "conv backward data",
                                           "conv backward weights",
                                           "channel sum",
                                           "fold weights",
                                           "fold bias",
                                           "bn stats",
                                           "bn pair",
                                           "bn apply",
                                           "bn update",
                                           "bn reduce",
                                           "bn grad",
                                           "bn row",
                                           "group stats",
                                           "group apply",
                                           "group reduce",
                                           "group grad",
                                           "l2 normalize",
                                           "l2 normalize grad",
                                           "max pool",
                                           "argmax pool",
                                           "pick",
                                           "place",
                                           "avg pool",
                                           "avg pool grad",
                                           "adaptive avg pool",
                                           "adaptive avg pool grad",
                                           "resize",
                                           "resize grad",
                                           "unary",
                                           "unary grad",
                                           "prelu",
                                           "prelu grad",
                                           "prelu slope grad",
                                           "add",
                                           "mul",
                                           "maximum",
                                           "maximum grad",
                                           "affine",
                                           "dropout",
                                           "reduce",
                                           "reduce like",
                                           "broadcast like",
                                           "stop gradient",
                                           "concat",
                                           "slice",
                                           "slice grad",
                                           "pad/crop",
                                           "pad/crop grad",
                                           "rotate",
                                           "reshape",
                                           "batch concat",
                                           "batch slice",
                                           "batch slice grad",
                                           "matmul",
                                           "transpose",
                                           "softmax",
                                           "softmax grad",
                                           "log softmax",
                                           "log softmax grad",
                                           "diagonal",
                                           "add diagonal",
                                           "loss",
                                           "loss grad",
                                           "custom"};
static_assert(sizeof op_names / sizeof *op_names == std::size_t(op::custom) + 1,
              "a new operator needs a name here, and a row in every backend's table");

/// "conv backward data".
constexpr const char* operator_name(op kind) { return op_names[int(kind)]; }

}  // namespace rsseg::graph
