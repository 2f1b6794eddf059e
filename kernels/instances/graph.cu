// SPDX-License-Identifier: MIT
// Instantiates the small operators of graphs, the full-graph attention and the permutohedral lattice (2 and 5 dimensions: dense CRFs) for nvcc.
#include "kernels/graph_attention_full.cuh"
#include "kernels/permutohedral.cuh"
#include "kernels/tensor_ops.cuh"

using namespace rsseg;
using namespace rsseg::cuda;

template <class T>
static void small(T* p) {
  strided_copy<T>({}, {}, {}, {}, p, p);
  broadcast<T>({}, binary::sum, {}, {}, p, p, p);
  reduce_axes<T>({}, {}, {}, p, p);
  unit_length<T>({}, p, p, p, 1, 1, 0);
  maximum_gradient<T>({}, {}, 0, p, p, 1);
}
template <int D>
static void lattices(int* memory, float* f) {
  const lattice_sizes<D> z(1);
  const lattice<D> l(z, memory);
  build_lattice<D>({}, l, f);
  lattice_filter<D>({}, l, f, f, 1, f);
}
void instantiate_lattices(int* memory, float* f) { lattices<2>(memory, f), lattices<5>(memory, f); }
void instantiate_graph(float* f, bf16* h, f16* e) {
  small(f), small(h), small(e);
  full_graph_attention({}, {}, f, f, f, f, f, f);
}
