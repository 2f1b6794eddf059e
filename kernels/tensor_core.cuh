// SPDX-License-Identifier: MIT
// Asynchronous copies (cp.async) and warp-wide matrix instructions (ldmatrix, mma.sync) of sm_80 and later, as thin functions with two bodies:
// PTX, and a model for the emulation that follows the register layouts of the PTX manual. Kernels hold no assembly themselves.
// In the model a copy lands only when its group is waited for; until then the destination is poisoned, so that a forgotten wait shows.
#pragma once
#include "common.cuh"

/// Launch bounds of a kernel whose shared memory lets one block onto a multiprocessor of sm_75 anyway: it may then have the registers of two.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define RSSEG_MMA_BOUNDS(threads) __launch_bounds__(threads, 1)
#else
#define RSSEG_MMA_BOUNDS(threads) __launch_bounds__(threads)
#endif

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// A 16 deep product as two of 8: the registers of the deeper fragment are those of its two halves, in this order.
template <class T>
__device__ __forceinline__ void mma_by_halves(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], T type);

#if !RSSEG_EMULATED

__device__ __forceinline__ unsigned shared_address(const void* p) { return unsigned(__cvta_generic_to_shared(p)); }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define RSSEG_SM80(...) __trap()  // launchers refuse such devices; the kernels still have to compile for them
#define RSSEG_FROM_SM80(...)      // not needed before
#else
#define RSSEG_SM80(...) __VA_ARGS__
#define RSSEG_FROM_SM80(...) __VA_ARGS__
#endif

/// Starts copying 16 bytes from global to shared memory, or zero-fills them if !valid. Both addresses are multiples of 16.
/// Before sm_80 the copy goes through registers and is done when this returns.
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool valid) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  *static_cast<uint4*>(to) = valid ? *static_cast<const uint4*>(from) : uint4{};
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
#endif
}
/// Ends a group of copies.
__device__ __forceinline__ void cp_async_commit() { RSSEG_FROM_SM80(asm volatile("cp.async.commit_group;\n" ::: "memory")); }
/// Waits until at most N groups of this thread are still under way. Other threads' copies need a barrier on top.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  RSSEG_FROM_SM80(asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory"));
}
/// Four 8x8 matrices of 16-bit values: lanes 8i..8i+7 give the row addresses of matrix i; register i of a lane gets row lane/4, columns
/// 2(lane%4)..+1.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/// The same, each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/// d (16x8, float) += a (16x16) * b (16x8).
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bf16) {
  RSSEG_SM80(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])));
}
/// d (16x8, float) += a (16x8) * b (8x8): Turing's instruction (sm_75).
__device__ __forceinline__ void mma_k8(float (&d)[4], unsigned a0, unsigned a1, unsigned b, f16) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a0), "r"(a1), "r"(b));
}
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], f16) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  mma_by_halves(d, a, b, f16{});
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
/// d (16x8, float) += a (16x8) * b (8x8), operands rounded to tf32 by round_tf32.
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], tf32) {
  RSSEG_SM80(asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])));
}
__device__ __forceinline__ unsigned round_tf32(float v) {
  unsigned r = 0;
  RSSEG_SM80(asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(r) : "f"(v)));
  return r;
}

#else

namespace model {
using emulation::site;
using emulation::text;
using emulation::the_engine;

inline void check_shared(const void* p, int bytes, int alignment, const char* what, const site& where) {
  auto& e = the_engine();
  const char *low = static_cast<const char*>(e.shared()), *at = static_cast<const char*>(p);
  if (reinterpret_cast<std::uintptr_t>(p) % std::uintptr_t(alignment))
    e.fault(std::string(what) + ": shared address not a multiple of " + std::to_string(alignment) + " at " + text(where));
  if (at < low || at + bytes > low + e.shared_bytes()) e.fault(std::string(what) + ": address outside of shared memory at " + text(where));
}

struct matrix_rows {
  const void* row;
  unsigned* r;
};
inline void load_matrices(unsigned (&r)[4], const void* row, bool transposed, const site& where) {
  check_shared(row, 16, 16, "ldmatrix", where);
  auto& e = the_engine();
  matrix_rows mine{row, r};
  e.me().payload = &mine;
  e.together(emulation::op_ldmatrix, 32, ~0u, where, [&](emulation::thread_record* lane) {
    for (int m = 0; m < 4; ++m) {
      std::uint16_t tile[8][8];
      for (int i = 0; i < 8; ++i) std::memcpy(tile[i], static_cast<matrix_rows*>(lane[8 * m + i].payload)->row, 16);
      for (int l = 0; l < 32; ++l) {
        const int i = l / 4, j = l % 4 * 2;
        const unsigned low = transposed ? tile[j][i] : tile[i][j], high = transposed ? tile[j + 1][i] : tile[i][j + 1];
        static_cast<matrix_rows*>(lane[l].payload)->r[m] = low | high << 16;
      }
    }
  });
}

struct fragments {
  float* d;
  const unsigned *a, *b;
};
// PerRegister: how many values one 32-bit register holds (2 halves or 1 tf32); K = 8 * PerRegister.
template <int PerRegister, class Decode>
inline void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Decode decode, const site& where) {
  constexpr int K = 8 * PerRegister;
  auto& e = the_engine();
  fragments mine{d, a, b};
  e.me().payload = &mine;
  e.together(emulation::op_mma, 32, ~0u, where, [&](emulation::thread_record* lane) {
    float A[16][K], B[K][8], D[16][8];
    auto f = [&](int l) -> fragments& { return *static_cast<fragments*>(lane[l].payload); };
    for (int l = 0; l < 32; ++l) {
      const int g = l >> 2, q = (l & 3) * PerRegister;
      for (int h = 0; h < PerRegister; ++h) {
        A[g][q + h] = decode(f(l).a[0], h), A[g + 8][q + h] = decode(f(l).a[1], h);
        A[g][q + K / 2 + h] = decode(f(l).a[2], h), A[g + 8][q + K / 2 + h] = decode(f(l).a[3], h);
        B[q + h][g] = decode(f(l).b[0], h), B[q + K / 2 + h][g] = decode(f(l).b[1], h);
      }
      for (int k = 0; k < 4; ++k) D[g + (k >> 1) * 8][(l & 3) * 2 + (k & 1)] = f(l).d[k];
    }
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < K; ++k)
        for (int j = 0; j < 8; ++j) D[i][j] += A[i][k] * B[k][j];
    for (int l = 0; l < 32; ++l)
      for (int k = 0; k < 4; ++k) f(l).d[k] = D[(l >> 2) + (k >> 1) * 8][(l & 3) * 2 + (k & 1)];
  });
}
/// m16n8k8 of halves: registers hold (row g, depth 2q), (row g + 8, depth 2q); (depth 2q, column g).
template <class Decode>
inline void multiply_k8(float (&d)[4], unsigned a0, unsigned a1, unsigned b, Decode decode, const site& where) {
  auto& e = the_engine();
  const unsigned a[2] = {a0, a1};
  fragments mine{d, a, &b};
  e.me().payload = &mine;
  e.together(emulation::op_mma, 32, ~0u, where, [&](emulation::thread_record* lane) {
    float A[16][8], B[8][8];
    auto f = [&](int l) -> fragments& { return *static_cast<fragments*>(lane[l].payload); };
    for (int l = 0; l < 32; ++l)
      for (int h = 0; h < 2; ++h) {
        const int g = l >> 2, k = (l & 3) * 2 + h;
        A[g][k] = decode(f(l).a[0], h), A[g + 8][k] = decode(f(l).a[1], h), B[k][g] = decode(*f(l).b, h);
      }
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 8; ++k) f(l).d[i] += A[(l >> 2) + (i >> 1) * 8][k] * B[k][(l & 3) * 2 + (i & 1)];
  });
}
}  // namespace model

inline void cp_async16(void* to, const void* from, bool valid, const model::site& where = model::site::current()) {
  model::check_shared(to, 16, 16, "cp.async", where);
  auto& e = model::the_engine();
  if (valid && reinterpret_cast<std::uintptr_t>(from) % 16) e.fault("cp.async: global address not a multiple of 16 at " + model::text(where));
  std::memset(to, emulation::poison_byte, 16);
  e.me().copies.push_back({to, valid ? from : nullptr, 16, e.me().open_group});
}
inline void cp_async_commit() { ++model::the_engine().me().open_group; }
template <int N>
inline void cp_async_wait() {
  auto& me = model::the_engine().me();
  std::size_t landed = 0;
  while (landed < me.copies.size() && me.copies[landed].group < me.open_group - N) emulation::engine::land(me.copies[landed++]);
  me.copies.erase(me.copies.begin(), me.copies.begin() + std::ptrdiff_t(landed));
}
inline void ldmatrix_x4(unsigned (&r)[4], const void* row, const model::site& where = model::site::current()) {
  model::load_matrices(r, row, false, where);
}
inline void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row, const model::site& where = model::site::current()) {
  model::load_matrices(r, row, true, where);
}
inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bf16, const model::site& where = model::site::current()) {
  model::multiply<2>(
      d, a, b, [](unsigned v, int h) { return to_float(bf16{std::uint16_t(v >> (16 * h))}); }, where);
}
inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], f16, const model::site& where = model::site::current()) {
  model::multiply<2>(
      d, a, b, [](unsigned v, int h) { return to_float(f16{std::uint16_t(v >> (16 * h))}); }, where);
}
inline void mma_k8(float (&d)[4], unsigned a0, unsigned a1, unsigned b, f16, const model::site& where = model::site::current()) {
  model::multiply_k8(
      d, a0, a1, b, [](unsigned v, int h) { return to_float(f16{std::uint16_t(v >> (16 * h))}); }, where);
}
inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], tf32, const model::site& where = model::site::current()) {
  model::multiply<1>(
      d, a, b, [](unsigned v, int) { return bits_float(v & 0xFFFFE000u); }, where);
}
inline unsigned round_tf32(float v) {
  const unsigned b = float_bits(v);
  return (b & 0x7F800000u) == 0x7F800000u ? b : (b + 0x1000u) & 0xFFFFE000u;
}
#endif

template <class T>
__device__ __forceinline__ void mma_by_halves(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], T type) {
  mma_k8(d, a[0], a[1], b[0], type);
  mma_k8(d, a[2], a[3], b[1], type);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
