// SPDX-License-Identifier: MIT
// The table of CPU kernels: which function runs an operator and how much workspace it needs. A new operator adds one line.
// In compiled mode only the declaration of entry_of is seen: the rows are in librsseg.
#pragma once
#include "rsseg/core/config.hpp"
#include "rsseg/cpu/call.hpp"

#if RSSEG_EXTERN_KERNELS
namespace rsseg::cpu {
/// How to run an operator on the CPU in precision T (float or double). Null functions: nothing to do.
template <class T>
const kernel_entry<T>& entry_of(graph::op kind);
}  // namespace rsseg::cpu
#else

#include "rsseg/cpu/arrange.hpp"
#include "rsseg/cpu/conv_entries.hpp"
#include "rsseg/cpu/fold.hpp"
#include "rsseg/cpu/loss.hpp"
#include "rsseg/cpu/matrix.hpp"
#include "rsseg/cpu/noise.hpp"
#include "rsseg/cpu/norm.hpp"
#include "rsseg/cpu/pointwise.hpp"
#include "rsseg/cpu/pool.hpp"
#include "rsseg/cpu/resize.hpp"
#include "rsseg/graph/custom.hpp"

namespace rsseg::cpu {

/// The user's operator, with its own kernels; at most 8 inputs, as infer() reads.
template <class T>
void run_custom(const call<T>& c) {
  const T* in[8] = {};
  shape extents[8];
  const int count = c.inputs() < 8 ? c.inputs() : 8;
  for (int k = 0; k < count; ++k) in[k] = c.in(k), extents[k] = c.in_extent(k);
  const custom_call<T> call{&c.at(), in, extents, count, c.out(), c.extent()};
  if constexpr (sizeof(T) == sizeof(float))
    c.at().custom->forward_float(call);
  else
    c.at().custom->forward_double(call);
}

namespace detail {
template <class T>
constexpr kernel_entry<T> make_entry(graph::op kind) {
  using graph::op;
  switch (kind) {
    // --- sources: the executor feeds them ---
    case op::input:
    case op::parameter:
    case op::buffer:
    case op::target:
      return {};
    case op::noise:
      return {&noise<T>};
    case op::constant:
      return {&constant<T>};
    // --- convolutions ---
    case op::conv:
    case op::conv_transpose:
    case op::conv_backward_data:
    case op::conv_backward_weights:
      return conv_entry<T>(kind);
    case op::channel_sum:
      return {&channel_sum<T>, &reduce_space};
    case op::fold_weights:
      return {&fold_weights<T>};
    case op::fold_bias:
      return {&fold_bias<T>};
    // --- norm ---
    case op::bn_stats:
      return {&bn_stats<T>, &bn_stats_space};
    case op::bn_pair:
      return {&bn_pair<T>};
    case op::bn_apply:
      return {&bn_apply<T>, &bn_apply_space<T>};
    case op::bn_update:
      return {&bn_update<T>};
    case op::bn_reduce:
      return {&bn_reduce<T>, &bn_reduce_space<T>};
    case op::bn_grad:
      return {&bn_grad<T>, &bn_grad_space<T>};
    case op::bn_row:
      return {&bn_row<T>};
    case op::group_stats:
      return {&group_stats<T>, &group_stats_space};
    case op::group_apply:
      return {&group_apply<T>, &group_apply_space<T>};
    case op::group_reduce:
      return {&group_reduce<T>, &group_reduce_space<T>};
    case op::group_grad:
      return {&group_grad<T>, &group_grad_space<T>};
    case op::l2_normalize:
      return {&l2_normalize<T>};
    case op::l2_normalize_grad:
      return {&l2_normalize_grad<T>};
    // --- pool ---
    case op::max_pool:
      return {&max_pool<T>};
    case op::argmax_pool:
      return {&argmax_pool<T>};
    case op::pick:
      return {&pick<T>};
    case op::place:
      return {&place<T>};
    case op::avg_pool:
      return {&avg_pool<T>};
    case op::avg_pool_grad:
      return {&avg_pool_grad<T>};
    case op::adaptive_avg_pool:
      return {&adaptive_avg_pool<T>};
    case op::adaptive_avg_pool_grad:
      return {&adaptive_avg_pool_grad<T>};
    // --- resize ---
    case op::resize:
      return {&resize<T>, &resize_space};
    case op::resize_grad:
      return {&resize_grad<T>, &resize_grad_space};
    // --- pointwise ---
    case op::unary:
      return {&unary<T>};
    case op::unary_grad:
      return {&unary_grad<T>};
    case op::prelu:
      return {&prelu<T>};
    case op::prelu_grad:
      return {&prelu_grad<T>};
    case op::prelu_slope_grad:
      return {&prelu_slope_grad<T>, &prelu_slope_grad_space};
    case op::add:
      return {&add<T>};
    case op::mul:
      return {&mul<T>};
    case op::maximum:
      return {&maximum<T>};
    case op::maximum_grad:
      return {&maximum_grad<T>};
    case op::affine:
      return {&affine<T>};
    case op::dropout:
      return {&dropout<T>};
    case op::reduce:
      return {&reduce<T>, &reduce_space};
    case op::reduce_like:
      return {&reduce<T>, &reduce_space};
    case op::broadcast_like:
      return {&broadcast_like<T>};
    case op::stop_gradient:
      return {&stop_gradient<T>};
    // --- arrange ---
    case op::concat:
      return {&concat<T>};
    case op::slice:
      return {&slice<T>};
    case op::slice_grad:
      return {&slice_grad<T>};
    case op::pad_crop:
      return {&pad_crop<T>};
    case op::pad_crop_grad:
      return {&pad_crop_grad<T>};
    case op::rotate:
      return {&rotate<T>};
    case op::reshape:
      return {&reshape<T>};
    case op::batch_concat:
      return {&batch_concat<T>};
    case op::batch_slice:
      return {&batch_slice<T>};
    case op::batch_slice_grad:
      return {&batch_slice_grad<T>};
    // --- matrix ---
    case op::matmul:
      return {&matmul<T>, &matmul_space<T>};
    case op::transpose:
      return {&transpose<T>};
    case op::softmax:
      return {&softmax<T>};
    case op::softmax_grad:
      return {&softmax_grad<T>};
    case op::log_softmax:
      return {&log_softmax<T>};
    case op::log_softmax_grad:
      return {&log_softmax_grad<T>};
    case op::diagonal:
      return {&diagonal<T>};
    case op::add_diagonal:
      return {&add_diagonal<T>};
    // --- loss ---
    case op::loss:
      return {&loss<T>, &loss_space};
    case op::loss_grad:
      return {&loss_grad<T>, &loss_grad_space};
    case op::custom:
      return {&run_custom<T>};
  }
  return {};
}

template <class T>
struct entry_table {
  static constexpr int size = int(graph::op::custom) + 1;
  kernel_entry<T> row[size];
  constexpr entry_table() {
    for (int i = 0; i < size; ++i) row[i] = make_entry<T>(graph::op(i));
  }
};
template <class T>
inline constexpr entry_table<T> entries{};
}  // namespace detail

/// How to run an operator on the CPU in precision T (float or double). Null functions: nothing to do.
template <class T>
#if !defined(RSSEG_BUILDING)
inline
#endif
    const kernel_entry<T>&
    entry_of(graph::op kind) {
  return detail::entries<T>.row[int(kind)];
}

}  // namespace rsseg::cpu
#endif
