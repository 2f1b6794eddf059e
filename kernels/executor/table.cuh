// SPDX-License-Identifier: MIT
// The table of CUDA entries: which function runs an operator, which of its values are maps, how much workspace it needs. An operator that has no row
// is an error that names it. tools/cuda_table.py compares the rows with graph/node.hpp.
#pragma once
#include "matrix.cuh"
#include "moving.cuh"
#include "norm.cuh"
#include "points.cuh"
#include "pointwise.cuh"
#include "pooling.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Inputs k... that are maps, and the result.
constexpr map_mask maps_in(unsigned inputs) { return inputs | result_map; }

/// The rows for maps stored as T. known false: the operator has no row for T; the executor then runs it in float.
template <class T>
constexpr kernel_entry<T> entry_of(graph::op kind, bool& known) {
  using graph::op;
  known = true;
  switch (kind) {
    // --- sources: the executor feeds them ---
    case op::input:
    case op::parameter:
    case op::buffer:
    case op::target:
      return {};
    case op::noise:
      return {&noise<T>, all_maps};
    case op::constant:
      return {&constant<T>, all_maps};
    // --- convolutions: 0 map, 1 weights (brought to T), 2 bias, 3 residual ---
    case op::conv:
      return {&conv<T>, maps_in(1 | 2 | 8), &conv_space<T>};
    case op::conv_transpose:
      return {&conv_transpose<T>, maps_in(1 | 2), &conv_data_space<T>};
    case op::conv_backward_data:
      return {&conv_backward_data<T>, maps_in(1 | 2 | 4), &conv_data_space<T>};
    case op::conv_backward_weights:
      return {&conv_backward_weights<T>, 1 | 2, &conv_weights_space<T>};
    case op::channel_sum:
      return {&channel_sum<T>, 1, &reduce_space};
    case op::fold_weights:
      return {&fold_weights<T>, 0};
    case op::fold_bias:
      return {&fold_bias<T>, 0};
    // --- norm ---
    case op::bn_stats:
      return {&bn_stats<T>, 1, &bn_stats_space};
    case op::bn_pair:
      return {&bn_pair<T>, 0};
    case op::bn_apply:
      return {&bn_apply<T>, maps_in(1)};
    case op::bn_update:
      return {&bn_update<T>, 8};
    case op::bn_reduce:
      return {&bn_reduce<T>, 1 | 2, &bn_reduce_space};
    case op::bn_grad:
      return {&bn_grad<T>, maps_in(1 | 2)};
    case op::bn_row:
      return {&bn_row<T>, 0};
    case op::group_stats:
      return {&group_stats<T>, 1};
    case op::group_apply:
      return {&group_apply<T>, maps_in(1)};
    case op::group_reduce:
      return {&group_reduce<T>, 1 | 2, &group_reduce_space};
    case op::group_grad:
      return {&group_grad<T>, maps_in(1 | 2), &group_grad_space};
    case op::l2_normalize:
      return {&l2_normalize<T>, all_maps};
    case op::l2_normalize_grad:
      return {&l2_normalize_grad<T>, all_maps};
    // --- pool ---
    case op::max_pool:
      return {&max_pool_entry<T>, all_maps};
    case op::argmax_pool:
      return {&argmax_pool_entry<T>, 1};
    case op::pick:
      return {&pick<T>, maps_in(1)};
    case op::place:
      return {&place<T>, maps_in(1 | 4)};
    case op::avg_pool:
      return {&avg_pool<T>, all_maps};
    case op::avg_pool_grad:
      return {&avg_pool_grad<T>, all_maps};
    case op::adaptive_avg_pool:
      return {&adaptive_avg_pool<T>, all_maps};
    case op::adaptive_avg_pool_grad:
      return {&adaptive_avg_pool_grad<T>, all_maps};
    // --- resize ---
    case op::resize:
      return {&resize<T>, all_maps, nullptr, &resize_table, &fill_resize_table};
    case op::resize_grad:
      return {&resize_grad<T>, all_maps, nullptr, &resize_grad_table, &fill_resize_grad_table};
    // --- pointwise ---
    case op::unary:
      return {&unary<T>, all_maps};
    case op::unary_grad:
      return {&unary_grad<T>, all_maps};
    case op::prelu:
      return {&prelu_forward<T>, maps_in(1)};
    case op::prelu_grad:
      return {&prelu_grad<T>, maps_in(1 | 2)};
    case op::prelu_slope_grad:
      return {&prelu_slope_grad<T>, 1 | 2, &prelu_slope_space};
    case op::add:
      return {&add_values<T>, all_maps};
    case op::mul:
      return {&mul_values<T>, all_maps};
    case op::maximum:
      return {&maximum_values<T>, all_maps};
    case op::maximum_grad:
      return {&maximum_grad<T>, all_maps};
    case op::affine:
      return {&affine<T>, all_maps};
    case op::dropout:
      return {&dropout_values<T>, all_maps};
    case op::reduce:
    case op::reduce_like:
      return {&reduce<T>, 1, &reduce_space};
    case op::broadcast_like:
      return {&broadcast_like<T>, all_maps};
    case op::stop_gradient:
      return {&copy_first<T>, all_maps};
    // --- moving ---
    case op::concat:
      return {&concat<T>, all_maps};
    case op::slice:
      return {&slice<T>, all_maps};
    case op::slice_grad:
      return {&slice_grad<T>, all_maps};
    case op::pad_crop:
      return {&pad_crop<T>, all_maps};
    case op::pad_crop_grad:
      return {&pad_crop_grad<T>, all_maps};
    case op::rotate:
      return {&rotate<T>, all_maps};
    case op::reshape:
      return {&copy_first<T>, all_maps};
    case op::batch_concat:
      return {&batch_concat<T>, all_maps};
    case op::batch_slice:
      return {&batch_slice<T>, all_maps};
    case op::batch_slice_grad:
      return {&batch_slice_grad<T>, all_maps};
    // --- matrix ---
    case op::matmul:
      return {&matmul_entry<T>, all_maps, &matmul_space<T>};
    case op::transpose:
      return {&transpose<T>, all_maps};
    case op::softmax:
      return {&softmax_entry<T>, all_maps};
    case op::softmax_grad:
      return {&softmax_grad<T>, all_maps};
    case op::log_softmax:
      return {&log_softmax_entry<T>, all_maps};
    case op::log_softmax_grad:
      return {&log_softmax_grad<T>, all_maps};
    case op::diagonal:
      return {&diagonal<T>, all_maps};
    case op::add_diagonal:
      return {&add_diagonal<T>, all_maps};
    // --- loss ---
    case op::loss:
      return {&loss<T>, 1, &loss_space};
    case op::loss_grad:
      return {&loss_grad<T>, maps_in(2), &loss_grad_space};
    case op::custom:
      if constexpr (std::is_same_v<T, float>) return {&custom, all_maps, &custom_space};
      break;
  }
  known = false;
  return {};
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
