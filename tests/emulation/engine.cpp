// SPDX-License-Identifier: MIT
// The emulator itself: barriers, warp operations, atomics, shared memory, asynchronous copies and matrix instructions do what CUDA's do, and every
// planted mistake is reported with its kind and place.
#include "emulation_test.hpp"
#include "kernels/tensor_core.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
// --- correct kernels
__global__ void reverse_in_block(float* x) {
  RSSEG_DYN_SHARED(float, s);
  s[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  x[blockIdx.x * blockDim.x + threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}
__global__ void shuffles(int* o) {
  const int t = int(threadIdx.x);
  o[t * 6 + 0] = __shfl_down_sync(~0u, t, 3);
  o[t * 6 + 1] = __shfl_up_sync(~0u, t, 2, 16);
  o[t * 6 + 2] = __shfl_xor_sync(~0u, t, 5);
  o[t * 6 + 3] = __shfl_sync(~0u, t, 9, 8);
  o[t * 6 + 4] = int(__ballot_sync(~0u, t % 3 == 0));
  o[t * 6 + 5] = __syncthreads_count(t % 4 == 0) * 4 + __syncthreads_or(t == 7) * 2 + __syncthreads_and(t >= 0);
}
__global__ void half_warp(int* o) {
  if (threadIdx.x < 16) o[threadIdx.x] = __shfl_xor_sync(0xFFFFu, int(threadIdx.x), 1);
}
__global__ void count_blocks(unsigned* n) {
  if (threadIdx.x == 0) atomicAdd(n, 1u);
}
template <bool Wait>
__global__ void copy_async(const float* x, float* y) {
  RSSEG_DYN_SHARED(float, s);
  cp_async16(s + 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x % 2 == 0);
  cp_async_commit();
  if (Wait) cp_async_wait<0>();
  __syncthreads();
  for (unsigned i = 0; i < 4; ++i) y[i * blockDim.x + threadIdx.x] = s[i * blockDim.x + threadIdx.x];
}
// C (16x8) = A (16xK) * B, B given as (8xK) rows; one warp. T: bf16, f16 or tf32. Halves: by Turing's instruction, which is half as deep.
template <class T, class S, bool Halves = false>
__global__ void one_mma(const S* a, const S* b, float* c) {
  constexpr int K = sizeof(S) == 2 ? 16 : 8, half = K / 2, per = sizeof(S) == 2 ? 2 : 1;
  const int lane = int(threadIdx.x), g = lane >> 2, q = (lane & 3) * per;
  unsigned ra[4], rb[2];
  auto get = [&](const S* p) {
    unsigned v;
    if constexpr (per == 2)
      v = unsigned(p[0].bits) | unsigned(p[1].bits) << 16;
    else
      v = round_tf32(*p);
    return v;
  };
  ra[0] = get(a + g * K + q), ra[1] = get(a + (g + 8) * K + q), ra[2] = get(a + g * K + q + half), ra[3] = get(a + (g + 8) * K + q + half);
  rb[0] = get(b + g * K + q), rb[1] = get(b + g * K + q + half);
  float d[4] = {0, 0, 0, 0};
  if constexpr (Halves)
    mma_by_halves(d, ra, rb, T{});
  else
    mma(d, ra, rb, T{});
  for (int e = 0; e < 4; ++e) c[(g + (e >> 1) * 8) * 8 + (lane & 3) * 2 + (e & 1)] = d[e];
}
// A (16x16) row-major and B (16x8, k-major: needs the transposed load) through shared memory
__global__ void mma_from_shared(const bf16* a, const bf16* b, float* c) {
  RSSEG_DYN_SHARED(bf16, s);
  const int lane = int(threadIdx.x);
  for (int i = lane; i < 256; i += 32) s[i] = a[i];
  for (int i = lane; i < 256; i += 32) s[256 + i] = b[i];  // B is 16x16 here: two column blocks
  __syncwarp();
  unsigned ra[4], rb[4];
  ldmatrix_x4(ra, s + (lane & 15) * 16 + (lane >> 4) * 8);
  ldmatrix_x4_transposed(rb, s + 256 + (lane & 15) * 16 + (lane >> 4) * 8);
  for (int n = 0; n < 2; ++n) {
    float d[4] = {0, 0, 0, 0};
    const unsigned bb[2] = {rb[2 * n], rb[2 * n + 1]};
    mma(d, ra, bb, bf16{});
    for (int e = 0; e < 4; ++e) c[((lane >> 2) + (e >> 1) * 8) * 16 + n * 8 + (lane & 3) * 2 + (e & 1)] = d[e];
  }
}

// --- planted mistakes
__global__ void two_barriers(int* o) {
  if (threadIdx.x < 7) {
    __syncthreads();
  } else {
    o[0] = 1;
    __syncthreads();
  }
}
__global__ void return_before_barrier(int* o) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  o[threadIdx.x] = 1;
}
__global__ void return_before_shuffle(int* o) {
  if (threadIdx.x == 9) return;
  o[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
}
__global__ void not_in_own_mask(int* o) { o[threadIdx.x] = __shfl_xor_sync(0xFFFFu, 1, 1); }
__global__ void read_outside_mask(int* o) {
  if (threadIdx.x < 16) o[threadIdx.x] = __shfl_sync(0xFFFFu, 1, 20);
}
__global__ void two_warp_operations(int* o) {
  if (threadIdx.x & 1)
    o[0] = __shfl_xor_sync(~0u, 1, 1);
  else
    o[1] = int(__ballot_sync(~0u, 1));
}
__global__ void barrier_against_warp(int* o) {
  if (threadIdx.x == 3) {
    __syncthreads();
  } else {
    __syncwarp();
  }
  o[threadIdx.x] = 1;
}
__global__ void misaligned_copy(const float* x) {
  RSSEG_DYN_SHARED(float, s);
  cp_async16(s + 1, x, true);
}
__global__ void shared_overrun(int* o) {
  RSSEG_DYN_SHARED(int, s);
  s[threadIdx.x + 1] = 1;
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x];
}
__global__ void global_overrun(float* o) { o[threadIdx.x + 1] = 1; }
__global__ void read_before_array(const float* x, float* o) { o[threadIdx.x] = x[int(threadIdx.x) - 1] * 2; }
__global__ void uninitialised_shared(float* o) {
  RSSEG_DYN_SHARED(float, s);
  if (threadIdx.x != 3) s[threadIdx.x] = 1;
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x] + 1;
}
__global__ void throws(int* o) {
  if (threadIdx.x == 7) throw std::runtime_error("boom");
  __syncthreads();
  o[0] = 1;
}
template <bool Barrier>
__global__ void running_sum(const float* x, float* y, int rounds) {  // the classic: the second barrier keeps fast threads from overwriting
  RSSEG_DYN_SHARED(float, s);
  float sum = 0;
  for (int r = 0; r < rounds; ++r) {
    s[threadIdx.x] = x[r * int(blockDim.x) + int(threadIdx.x)];
    __syncthreads();
    sum += s[(threadIdx.x + 1) % blockDim.x];
    if (Barrier) __syncthreads();
  }
  y[threadIdx.x] = sum;
}
}  // namespace

TEST_CASE("emulation: barriers, shuffles, votes and atomics follow CUDA") {
  in_every_order([] {
    device_array<float> x(random_values(192, 1));
    const auto before = x.host();
    kernel_launch({"reverse_in_block", 3, 64, 256}, reverse_in_block, x.get());
    const auto after = x.host();
    for (int i = 0; i < 192; ++i) CHECK(after[std::size_t(i)] == before[std::size_t(i / 64 * 64 + 63 - i % 64)]);

    device_array<int> o(64 * 6);
    kernel_launch({"shuffles", 1, 64}, shuffles, o.get());
    const auto v = o.host();
    for (int t = 0; t < 64; ++t) {
      const int lane = t % 32, base = t - lane;
      const int* r = &v[std::size_t(t) * 6];
      CHECK(r[0] == (lane + 3 < 32 ? t + 3 : t));
      CHECK(r[1] == (lane % 16 >= 2 ? t - 2 : t));
      CHECK(r[2] == base + (lane ^ 5));
      CHECK(r[3] == t / 8 * 8 + 1);
      unsigned votes = 0;
      for (int i = 0; i < 32; ++i) votes |= unsigned((base + i) % 3 == 0) << i;
      CHECK(unsigned(r[4]) == votes);
      CHECK(r[5] == 16 * 4 + 2 + 1);
    }
    device_array<int> h(16);
    kernel_launch({"half_warp", 1, 32}, half_warp, h.get());
    CHECK(h.host()[6] == 7);
    device_array<unsigned> n(std::vector<unsigned>{0});
    kernel_launch({"count_blocks", dim3(5, 4, 3), 40}, count_blocks, n.get());
    CHECK(n.host()[0] == 60);
  });
}

TEST_CASE("emulation: cp.async, ldmatrix and mma follow the PTX manual") {
  in_every_order([] {
    device_array<float> x(random_values(128, 2)), y(128);
    kernel_launch({"copy_async", 1, 32, 512}, copy_async<true>, x.get(), y.get());
    const auto xs = x.host(), ys = y.host();
    for (std::size_t i = 0; i < 128; ++i) CHECK(ys[i] == (i / 4 % 2 == 0 ? xs[i] : 0.0f));

    auto check_product = [](auto tag, auto storage, int K, auto halves) {
      using S = decltype(storage);
      const auto a = stored<S>(random_values(std::size_t(16 * K), 3)), b = stored<S>(random_values(std::size_t(8 * K), 4));
      device_array<S> da(a), db(b);
      device_array<float> c(128);
      kernel_launch({"one_mma", 1, 32}, one_mma<decltype(tag), S, halves()>, da.get(), db.get(), c.get());
      std::vector<double> want(128);
      for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 8; ++j)
          for (int k = 0; k < K; ++k)
            want[std::size_t(i * 8 + j)] += double(to_float(a[std::size_t(i * K + k)])) * double(to_float(b[std::size_t(j * K + k)]));
      return relative_error(c.host(), want);
    };
    CHECK(check_product(bf16{}, bf16{}, 16, std::false_type{}) < 1e-6);
    CHECK(check_product(f16{}, f16{}, 16, std::false_type{}) < 1e-6);
    CHECK(check_product(f16{}, f16{}, 16, std::true_type{}) < 1e-6);
    CHECK(check_product(tf32{}, float{}, 8, std::false_type{}) < 1e-3);  // operands are rounded to 10 bits ...
    CHECK(check_product(tf32{}, float{}, 8, std::false_type{}) > 1e-6);  // ... and not to more

    const auto a = stored<bf16>(random_values(256, 5)), b = stored<bf16>(random_values(256, 6));
    device_array<bf16> da(a), db(b);
    device_array<float> c(256);
    kernel_launch({"mma_from_shared", 1, 32, 1024}, mma_from_shared, da.get(), db.get(), c.get());
    std::vector<double> want(256);
    for (std::size_t i = 0; i < 16; ++i)
      for (std::size_t j = 0; j < 16; ++j)
        for (std::size_t k = 0; k < 16; ++k) want[i * 16 + j] += double(to_float(a[i * 16 + k])) * double(to_float(b[k * 16 + j]));
    CHECK(relative_error(c.host(), want) < 1e-6);
  });
}

TEST_CASE("emulation: every planted mistake is reported") {
  in_every_order([] {
    device_array<int> o(std::vector<int>(64, 0));
    device_array<float> f(std::vector<float>(64, 0.0f)), x(std::vector<float>(64, 1.0f));
    auto fault = [&](auto kernel, unsigned threads, std::size_t shared, auto... arguments) {
      const std::string m = fault_of([&] { kernel_launch({"planted", 1, threads, shared}, kernel, arguments...); });
      INFO(m);
      return m;
    };
    CHECK(contains(fault(two_barriers, 32, 0, o.get()), "divergent barrier"));
    CHECK(contains(fault(return_before_barrier, 32, 0, o.get()), "returned while other threads wait"));
    CHECK(contains(fault(return_before_shuffle, 32, 0, o.get()), "has returned"));
    CHECK(contains(fault(not_in_own_mask, 32, 0, o.get()), "not in its own mask"));
    CHECK(contains(fault(read_outside_mask, 32, 0, o.get()), "not in the mask"));
    CHECK(contains(fault(two_warp_operations, 32, 0, o.get()), "divergent warp operation"));
    CHECK(contains(fault(barrier_against_warp, 32, 0, o.get()), "deadlock"));
    CHECK(contains(fault(misaligned_copy, 1, 64, x.get()), "multiple of 16"));
    CHECK(contains(fault(copy_async<false>, 16, 256, x.get(), f.get()), "missing cp_async_wait"));
    CHECK(contains(fault(throws, 32, 0, o.get()), "boom"));
    CHECK(contains(fault(throws, 2000, 0, o.get()), "threads in a block"));
    CHECK(contains(fault(throws, 32, 300 * 1024, o.get()), "bytes of shared memory"));
    CHECK(contains(fault_of([&] { kernel_launch({"planted", dim3(1, 70000), 32}, throws, o.get()); }), "bad grid"));
#if !defined(RSSEG_EMULATION_ASAN)  // which stops the program at these itself: see faults_asan.cpp
    CHECK(contains(fault(shared_overrun, 32, 128, o.get()), "beyond its 128 bytes"));
    device_array<float> small(32);
    kernel_launch({"global_overrun", 1, 32}, global_overrun, small.get());
    CHECK(contains(fault_of([&] { small.host(); }), "out of bounds"));
    device_array<float> out(64);
    kernel_launch({"read_before_array", 1, 64}, read_before_array, x.get(), out.get());
    CHECK(contains(fault_of([&] { out.host(); }), "out-of-bounds memory"));
#endif
    device_array<float> y(32);
    kernel_launch({"uninitialised_shared", 1, 32, 128}, uninitialised_shared, y.get());
    CHECK(contains(fault_of([&] { y.host(); }), "element 3 of 32"));

    emulation::settings().allow_early_exit = true;
    CHECK(fault(return_before_barrier, 32, 0, o.get()) == "");
    emulation::settings().allow_early_exit = false;
  });
}

TEST_CASE("emulation: a missing barrier changes the result in every order") {
  const auto x = random_values(64 * 8, 7);
  std::vector<double> want(64);
  for (std::size_t r = 0; r < 8; ++r)
    for (std::size_t i = 0; i < 64; ++i) want[i] += double(x[r * 64 + (i + 1) % 64]);
  in_every_order([&] {
    device_array<float> dx(x), y(64);
    kernel_launch({"running_sum", 1, 64, 256}, running_sum<true>, dx.get(), y.get(), 8);
    CHECK(relative_error(y.host(), want) < 1e-6);
    kernel_launch({"running_sum", 1, 64, 256}, running_sum<false>, dx.get(), y.get(), 8);
    CHECK(relative_error(y.host(), want) > 0.01);  // the correct kernel is below 1e-6
  });
}

TEST_CASE("emulation: halves convert as IEEE says") {
  for (unsigned b = 0; b < 65536; ++b) {
    const f16 h{std::uint16_t(b)};
    if ((b & 0x7C00u) == 0x7C00u && (b & 0x3FFu)) continue;  // NaN
    CHECK(from_float<f16>(to_float(h)).bits == b);
    const bf16 n{std::uint16_t(b)};
    if ((b & 0x7F80u) == 0x7F80u && (b & 0x7Fu)) continue;
    CHECK(from_float<bf16>(to_float(n)).bits == b);
  }
  CHECK(from_float<f16>(65520.0f).bits == 0x7C00);
  CHECK(from_float<f16>(65519.0f).bits == 0x7BFF);
  CHECK(from_float<f16>(1.0f + 1.0f / 2048).bits == 0x3C00);  // tie to even
  CHECK(from_float<f16>(1.0f + 3.0f / 2048).bits == 0x3C02);
  CHECK(from_float<bf16>(1.0f + 1.0f / 256).bits == 0x3F80);
  CHECK(from_float<f16>(2.9802322387695312e-8f).bits == 0);  // half of the smallest subnormal, tie to even
  CHECK(from_float<f16>(2.9802326e-8f).bits == 1);
  for (int d : {1, 2, 3, 7, 48, 641, 65537, 2147483647})
    for (std::int64_t n : {0, 1, 2, 6, 7, 640, 641, 99999, 2147483646, 2147483647}) CHECK(divider(d).divide(int(n)) == int(n) / d);
}
