// SPDX-License-Identifier: MIT
// Operators beyond convolution against cuDNN where it has them, else against the usual way to do it (scatter with float atomics, 64-bit indices, maps
// written and read again), beside the roofline floor of an H100.
//   bench_cuda_operators [--json FILE] [--only TEXT] [--rounds N]
// Timing as in cudnn.cu: rotated buffers, graph replay, medians; results are compared in the same run. Without a device: "not measured", exit 77.
#include <cstring>

#include "cuda_bench.hpp"
#include "kernels/attention.cuh"
#include "kernels/cross_entropy.cuh"
#include "kernels/graph_attention_full.cuh"
#include "kernels/matmul.cuh"
#include "kernels/normalization.cuh"
#include "kernels/point_sample.cuh"
#include "kernels/pool.cuh"
#include "kernels/resize.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace cuda_bench;

namespace {

// --- the usual ways
__global__ void scatter_resize_kernel(resize_geometry g, axis_map ym, axis_map xm, const float* dy, float* dx) {
  const std::int64_t size = std::int64_t(g.n) * g.out_h * g.out_w * g.c;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int c = int(i % g.c), ox = int(i / g.c % g.out_w), oy = int(i / g.c / g.out_w % g.out_h), n = int(i / g.c / g.out_w / g.out_h);
    int y0, y1, x0, x1;
    float fy, fx;
    ym(oy, y0, y1, fy), xm(ox, x0, x1, fx);
    const auto add = [&](int y, int x, float w) { atomicAdd(&dx[((std::int64_t(n) * g.in_h + y) * g.in_w + x) * g.c + c], w * dy[i]); };
    add(y0, x0, (1 - fy) * (1 - fx)), add(y0, x1, (1 - fy) * fx), add(y1, x0, fy * (1 - fx)), add(y1, x1, fy * fx);
  }
}
__global__ void long_index_kernel(conv_geometry g, const std::uint8_t* place, long long* index) {
  const std::int64_t size = std::int64_t(g.n) * g.out_h * g.out_w * g.in_c;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int ox = int(i / g.in_c % g.out_w), oy = int(i / g.in_c / g.out_w % g.out_h), n = int(i / g.in_c / g.out_w / g.out_h);
    index[i] = ((std::int64_t(n) * g.in_h + oy * 2 + place[i] / 2) * g.in_w + ox * 2 + place[i] % 2) * g.in_c + i % g.in_c;
  }
}
__global__ void scatter_unpool_kernel(const float* small, const long long* index, float* large, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) large[index[i]] = small[i];
}
__global__ void scatter_points_kernel(point_geometry g, const float* points, const float* dy, float* dx) {
  for (std::int64_t i = grid_start(); i < std::int64_t(g.n) * g.count * g.c; i += grid_stride()) {
    const int c = int(i % g.c), n = int(i / g.c / g.count);
    int x0, y0;
    float fx, fy;
    if (!locate(g, points + i / g.c * 2, x0, y0, fx, fy)) continue;
    for (int k = 0; k < 4; ++k) {
      const int y = y0 + k / 2, x = x0 + k % 2;
      if (y >= 0 && x >= 0 && y < g.h && x < g.w)
        atomicAdd(&dx[((std::int64_t(n) * g.h + y) * g.w + x) * g.c + c], (k / 2 ? fy : 1 - fy) * (k % 2 ? fx : 1 - fx) * dy[i]);
    }
  }
}
__global__ void score_matrix_kernel(int n, const float* s, const float* t, float slope, float* scores) {
  for (std::int64_t i = grid_start(); i < std::int64_t(n) * n; i += grid_stride()) scores[i] = leaky(s[i / n] + t[i % n], slope);
}
__global__ void softmax_rows_kernel(int n, float* scores) {
  RSSEG_DYN_SHARED(float, scratch);
  float* row = scores + std::int64_t(blockIdx.x) * n;
  float top = -INFINITY, sum = 0;
  for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) top = fmaxf(top, row[i]);
  top = warp_max(top);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = top;
  __syncthreads();
  for (int i = 0; i < int(blockDim.x) / 32; ++i) top = fmaxf(top, scratch[i]);
  __syncthreads();
  for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) sum += expf(row[i] - top);
  sum = block_sum(sum, scratch);
  for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) row[i] = expf(row[i] - top) / sum;
}

std::vector<float> noise(std::size_t n, unsigned seed, float low = -1, float high = 1) {
  std::vector<float> v(n);
  for (float& x : v) seed = seed * 1664525u + 1013904223u, x = low + (high - low) * float(seed >> 8) / 16777216.0f;
  return v;
}
/// `copies` arrays of the same values.
struct rotated {
  std::vector<device_array<float>> a;
  rotated(const std::vector<float>& v, int copies) {
    for (int i = 0; i < copies; ++i) a.emplace_back(v);
  }
  rotated(std::size_t n, int copies) {
    for (int i = 0; i < copies; ++i) a.emplace_back(n);
  }
  float* operator[](int i) { return a[std::size_t(i)].get(); }
  std::vector<float> host() const { return a[0].host(); }
};

struct measured {
  double ours = NAN, rival = NAN, difference = NAN;
};
struct context {
  cudaStream_t s;
  cudnnHandle_t handle;
  int rounds;
};
struct row {
  const char *name, *rival;
  double flops, bytes;
  measured (*run)(const context&);
  double floor_us() const { return 1e6 * std::max(flops / flops_per_second[0], bytes / bytes_per_second); }
};
template <class Ours, class Rival, class Result>
measured versus(const context& c, int copies, Ours ours, Rival rival, Result result) {
  measured m;
  m.ours = median_us(copies, c.rounds, c.s, ours);
  const auto mine = result();
  m.rival = median_us(copies, c.rounds, c.s, rival);
  m.difference = largest_difference(mine, result());
  return m;
}

measured resize_gradient(const context& c, resize_geometry g) {
  const std::size_t small = std::size_t(g.n) * g.in_h * g.in_w * g.c, large = std::size_t(g.n) * g.out_h * g.out_w * g.c;
  const int k = rotations(4 * (small + large));
  rotated dy(noise(large, 1), k), dx(small, k);
  const axis_map ym(g.in_h, g.out_h, false), xm(g.in_w, g.out_w, false);
  return versus(
      c, k, [&](int i) { bilinear_backward<float>(c.s, g, dy[i], dx[i]); },
      [&](int i) {
        check(cudaMemsetAsync(dx[i], 0, small * 4, c.s), "clear");
        kernel_launch({"scatter_resize", grid_for(std::int64_t(large), 256), 256, 0, c.s}, scatter_resize_kernel, g, ym, xm, dy[i], dx[i]);
      },
      [&] { return dx.host(); });
}
measured resize_x4(const context& c) { return resize_gradient(c, {1, 19, 128, 256, 512, 1024}); }
measured resize_x8(const context& c) { return resize_gradient(c, {8, 21, 64, 64, 512, 512}); }
measured upsampled_loss(const context& c) {
  const resize_geometry g{1, 19, 128, 256, 1024, 2048};
  const std::size_t small = std::size_t(g.in_h) * g.in_w * g.c, pixels = std::size_t(g.out_h) * g.out_w;
  const int k = rotations(4 * small + pixels);
  rotated z(noise(small, 1), k), dz(small, k);
  std::vector<std::uint8_t> y(pixels);
  for (std::size_t i = 0; i < pixels; ++i) y[i] = std::uint8_t(i * 7 / 64 % 20 == 19 ? 255 : i * 7 / 64 % 20);
  device_array<std::uint8_t> labels(y);
  device_array<float> work(upsampled_cross_entropy_workspace(g)), full(pixels * 19), dfull(pixels * 19), work2(cross_entropy_workspace());
  device_array<cross_entropy_result> r(1);
  const cross_entropy_target<std::uint8_t> t{labels.get()};
  return versus(
      c, k, [&](int i) { upsampled_cross_entropy<float>(c.s, g, z[i], t, dz[i], 1, work.get(), r.get()); },
      [&](int i) {
        bilinear<float>(c.s, g, z[i], full.get());
        cross_entropy<float>(c.s, full.get(), t, dfull.get(), nullptr, 1, std::int64_t(pixels), 19, work2.get(), r.get());
        bilinear_backward<float>(c.s, g, dfull.get(), dz[i]);
      },
      [&] { return dz.host(); });
}
conv_geometry segnet_pool() {
  conv_geometry g;
  g.n = 8, g.in_h = 360, g.in_w = 480, g.in_c = g.out_c = 64, g.out_h = 180, g.out_w = 240, g.kernel_h = g.kernel_w = g.stride_h = g.stride_w = 2;
  return g;
}
measured max_pool_index(const context& c) {
  const auto g = segnet_pool();
  const std::size_t large = std::size_t(8) * 360 * 480 * 64, small = large / 4;
  rotated x(noise(large, 1), 2), y(small, 2);
  device_array<std::uint8_t> index(small);
  cudnnTensorDescriptor_t xd, yd;
  cudnnPoolingDescriptor_t pd;
  check_cudnn(cudnnCreateTensorDescriptor(&xd), "descriptor"), check_cudnn(cudnnCreateTensorDescriptor(&yd), "descriptor");
  check_cudnn(cudnnCreatePoolingDescriptor(&pd), "descriptor");
  check_cudnn(cudnnSetTensor4dDescriptor(xd, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 8, 64, 360, 480), "input");
  check_cudnn(cudnnSetTensor4dDescriptor(yd, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 8, 64, 180, 240), "output");
  check_cudnn(cudnnSetPooling2dDescriptor(pd, CUDNN_POOLING_MAX_DETERMINISTIC, CUDNN_PROPAGATE_NAN, 2, 2, 0, 0, 2, 2), "pooling");
  const float one = 1, zero = 0;
  const measured m = versus(
      c, 2, [&](int i) { max_pool<float>(c.s, g, x[i], y[i], index.get()); },
      [&](int i) { check_cudnn(cudnnPoolingForward(c.handle, pd, &one, xd, x[i], &zero, yd, y[i]), "pooling"); }, [&] { return y.host(); });
  cudnnDestroyTensorDescriptor(xd), cudnnDestroyTensorDescriptor(yd), cudnnDestroyPoolingDescriptor(pd);
  return m;
}
measured unpool_segnet(const context& c) {
  const auto g = segnet_pool();
  const std::size_t large = std::size_t(8) * 360 * 480 * 64, small = large / 4;
  rotated x(noise(large, 1), 1), y(noise(small, 2), 2), up(large, 2);
  device_array<std::uint8_t> index(small);
  device_array<long long> long_index(small);
  max_pool<float>(c.s, g, x[0], y[0], index.get());
  kernel_launch({"long_index", grid_for(std::int64_t(small), 256), 256, 0, c.s}, long_index_kernel, g, index.get(), long_index.get());
  return versus(
      c, 2, [&](int i) { unpool<float>(c.s, g, y[i], index.get(), up[i]); },
      [&](int i) {
        check(cudaMemsetAsync(up[i], 0, large * 4, c.s), "clear");
        kernel_launch({"scatter_unpool", grid_for(std::int64_t(small), 256), 256, 0, c.s}, scatter_unpool_kernel, y[i], long_index.get(), up[i],
                      std::int64_t(small));
      },
      [&] { return up.host(); });
}
measured pyramid_one_read(const context& c) {
  const int bins[] = {1, 2, 3, 6};
  const pyramid all = make_pyramid(8, 60, 60, 2048, bins, 4);
  rotated x(noise(std::size_t(8) * 60 * 60 * 2048, 1), 2);
  std::vector<device_array<float>> ys;
  float* y[4];
  for (int l = 0; l < 4; ++l) ys.emplace_back(std::size_t(8) * bins[l] * bins[l] * 2048), y[l] = ys.back().get();
  device_array<float> work(pyramid_workspace(all));
  return versus(
      c, 2, [&](int i) { pyramid_pool<float>(c.s, all, x[i], y, work.get()); },
      [&](int i) {
        for (int l = 0; l < 4; ++l) pyramid_pool<float>(c.s, make_pyramid(8, 60, 60, 2048, bins + l, 1), x[i], y + l, work.get());
      },
      [&] { return ys[3].host(); });
}
struct batch_norm_rival {
  cudnnTensorDescriptor_t x{}, p{};
  batch_norm_rival(int n, int ch, int h, int w) {
    check_cudnn(cudnnCreateTensorDescriptor(&x), "descriptor"), check_cudnn(cudnnCreateTensorDescriptor(&p), "descriptor");
    check_cudnn(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, n, ch, h, w), "input");
    check_cudnn(cudnnDeriveBNTensorDescriptor(p, x, CUDNN_BATCHNORM_SPATIAL_PERSISTENT), "parameters");
  }
  ~batch_norm_rival() { cudnnDestroyTensorDescriptor(x), cudnnDestroyTensorDescriptor(p); }
};
measured batch_norm_pass(const context& c, bool backward) {
  const std::int64_t pixels = std::int64_t(8) * 512 * 512;
  const std::size_t size = std::size_t(pixels) * 64;
  rotated x(noise(size, 1), 2), y(size, 2), dy(noise(size, 2), 2), dx(size, 2);
  device_array<float> gamma(noise(64, 3, 0.5f, 1.5f)), beta(noise(64, 4)), mean(64), inverse(64), dgamma(64), dbeta(64),
      work(batch_norm_workspace(pixels, 64));
  batch_norm_state b;
  b.gamma = gamma.get(), b.beta = beta.get(), b.mean = mean.get(), b.inverse_deviation = inverse.get();
  batch_norm_rival d(8, 64, 512, 512);
  const float one = 1, zero = 0;
  const auto forward = [&](int i) { batch_norm_train<float>(c.s, b, x[i], nullptr, y[i], pixels, 64, activation::none, work.get()); };
  if (!backward)
    return versus(
        c, 2, forward,
        [&](int i) {
          check_cudnn(cudnnBatchNormalizationForwardTraining(c.handle, CUDNN_BATCHNORM_SPATIAL_PERSISTENT, &one, &zero, d.x, x[i], d.x, y[i], d.p,
                                                             gamma.get(), beta.get(), 0, nullptr, nullptr, 1e-5, mean.get(), inverse.get()),
                      "batch norm");
        },
        [&] { return y.host(); });
  forward(0);
  return versus(
      c, 2,
      [&](int i) {
        batch_norm_backward<float>(c.s, b, x[i], nullptr, dy[i], dx[i], nullptr, dgamma.get(), dbeta.get(), pixels, 64, activation::none, work.get());
      },
      [&](int i) {
        check_cudnn(cudnnBatchNormalizationBackward(c.handle, CUDNN_BATCHNORM_SPATIAL_PERSISTENT, &one, &zero, &one, &zero, d.x, x[i], d.x, dy[i],
                                                    d.x, dx[i], d.p, gamma.get(), dgamma.get(), dbeta.get(), 1e-5, mean.get(), inverse.get()),
                    "batch norm backward");
      },
      [&] { return dx.host(); });
}
measured batch_norm_forward(const context& c) { return batch_norm_pass(c, false); }
measured batch_norm_gradient(const context& c) { return batch_norm_pass(c, true); }
measured graph_attention(const context& c, bool exact) {
  attention_geometry g;
  g.batch = 4, g.rows = g.columns = 4096, g.channels = 64;
  rotated v(noise(std::size_t(4) * 4096 * 64, 1), 2), s(noise(4 * 4096, 2, -3, 3), 2), t(noise(4 * 4096, 3, -3, 3), 2),
      out(std::size_t(4) * 4096 * 64, 2);
  device_array<float> work(full_graph_workspace(g)), scores(std::size_t(4096) * 4096);
  return versus(
      c, 2,
      [&](int i) {
        if (exact)
          full_graph_attention(c.s, g, s[i], t[i], v[i], out[i], nullptr, work.get());
        else
          attention_forward(c.s, g, additive_score{s[i], t[i], nullptr}, v[i], out[i], nullptr);
      },
      [&](int i) {
        for (int h = 0; h < 4; ++h) {
          kernel_launch({"score_matrix", 8192, 256, 0, c.s}, score_matrix_kernel, 4096, s[i] + h * 4096, t[i] + h * 4096, g.slope, scores.get());
          kernel_launch({"softmax_rows", 4096, 256, 128, c.s}, softmax_rows_kernel, 4096, scores.get());
          matmul(c.s, {4096, 64, 4096}, scores.get(), v[i] + std::int64_t(h) * 4096 * 64, out[i] + std::int64_t(h) * 4096 * 64);
        }
      },
      [&] { return out.host(); });
}
measured attention_tiles(const context& c) { return graph_attention(c, false); }
measured attention_exact(const context& c) { return graph_attention(c, true); }
measured points_gradient(const context& c) {
  const point_geometry g{8, 256, 256, 256, 8096};
  const std::size_t map = std::size_t(8) * 256 * 256 * 256, values = std::size_t(8) * 8096 * 256;
  rotated dy(noise(values, 1), 2), dx(map, 2), points(noise(std::size_t(8) * 8096 * 2, 2, 0, 1), 1);
  device_array<int> work(point_workspace(g));
  return versus(
      c, 2, [&](int i) { point_sample_backward<float>(c.s, g, points[0], dy[i], dx[i], work.get()); },
      [&](int i) {
        check(cudaMemsetAsync(dx[i], 0, map * 4, c.s), "clear");
        kernel_launch({"scatter_points", grid_for(std::int64_t(values), 256), 256, 0, c.s}, scatter_points_kernel, g, points[0], dy[i], dx[i]);
      },
      [&] { return dx.host(); });
}

const row rows[] = {
    {"resize adjoint x4, 19 ch, 128x256 b1", "atomics", 0, 4.0 * 19 * (128 * 256 + 512 * 1024), resize_x4},
    {"resize adjoint x8, 21 ch, 64x64 b8", "atomics", 0, 4.0 * 8 * 21 * (64 * 64 + 512 * 512), resize_x8},
    {"upsample x8 + loss + adjoint, 19 cl, 1024x2048", "unfused", 12.0 * 19 * 1024 * 2048 * 2, 4.0 * 2 * 19 * 128 * 256 + 2.0 * 1024 * 2048,
     upsampled_loss},
    {"max pool 2x2 + index, 64 ch, 360x480 b8", "cuDNN", 0, 8.0 * 64 * 360 * 480 * (4 + 5.0 / 4), max_pool_index},
    {"unpool 2x2, 64 ch, 360x480 b8", "scatter", 0, 8.0 * 64 * 360 * 480 * (4 + 5.0 / 4), unpool_segnet},
    {"pyramid pool 1,2,3,6, 2048 ch, 60x60 b8", "4 reads", 0, 4.0 * 8 * 2048 * (60 * 60 + 50), pyramid_one_read},
    {"batch norm train, 64 ch, 512x512 b8", "cuDNN", 0, 4.0 * 3 * 8 * 64 * 512 * 512, batch_norm_forward},
    {"batch norm gradient, 64 ch, 512x512 b8", "cuDNN", 0, 4.0 * 5 * 8 * 64 * 512 * 512, batch_norm_gradient},
    {"graph attention, tiles, N 4096, 4 x 64 ch", "N x N", 4.0 * 2 * 4096 * 4096 * 64, 4.0 * 4 * 4096 * (2 * 64 + 2), attention_tiles},
    {"graph attention, exact N log N, 4 x 64 ch", "N x N", 0, 4.0 * 4 * 4096 * (2 * 64 + 2), attention_exact},
    {"point sample gradient, 8096 pts, 256 ch b8", "atomics", 0, 4.0 * 8 * (8096 * 256 + 256.0 * 256 * 256), points_gradient},
};

}  // namespace

int main(int argc, char** argv) {
  std::string json_file, only;
  context c{{}, {}, 21};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--json")) json_file = argv[i + 1];
    if (!std::strcmp(argv[i], "--only")) only = argv[i + 1];
    if (!std::strcmp(argv[i], "--rounds")) c.rounds = std::max(1, std::atoi(argv[i + 1]));
  }
  int devices = 0;
  const bool have_device = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  cudaDeviceProp device{};
  std::string json = "{\n \"date\": \"" + today() + "\", \"cudnn\": " + std::to_string(cudnnGetVersion()) + ",\n \"rows\": [\n";
  try {
    if (have_device) {
      check(cudaGetDeviceProperties(&device, 0), "device properties");
      check(cudaStreamCreateWithFlags(&c.s, cudaStreamNonBlocking), "stream");
      check_cudnn(cudnnCreate(&c.handle), "create"), check_cudnn(cudnnSetStream(c.handle, c.s), "stream");
      std::printf("%s, cuDNN %zu, %s; fp32, microseconds, median of %d\n", device.name, cudnnGetVersion(), today().c_str(), c.rounds);
    } else {
      std::printf("no CUDA device: times are not measured, only the floors of an H100 are listed (cuDNN %zu)\n", cudnnGetVersion());
    }
    std::printf("%-50s %12s %9s %8s %-8s %12s %9s %10s\n", "operator", "ours", "floor", "of floor", "rival", "rival us", "speed-up", "difference");
    bool first = true;
    for (const row& r : rows) {
      if (!only.empty() && std::string(r.name).find(only) == std::string::npos) continue;
      const measured m = have_device ? r.run(c) : measured{};
      const double floor = r.floor_us();
      std::printf("%-50s %12s %9.1f %8s %-8s %12s %9s %10s\n", r.name, number(m.ours).c_str(), floor,
                  std::isnan(m.ours) ? "" : (number(100 * floor / m.ours, "%.0f") + " %").c_str(), r.rival, number(m.rival).c_str(),
                  std::isnan(m.rival / m.ours) ? "" : number(m.rival / m.ours, "%.2f").c_str(),
                  std::isnan(m.difference) ? "" : number(m.difference, "%.1e").c_str());
      std::fflush(stdout);
      const auto field = [](double x) { return std::isnan(x) ? std::string("null") : number(x, "%.3f"); };
      json += std::string(first ? "" : ",\n") + "  {\"layer\": \"" + r.name + "\", \"math\": \"fp32\", \"ours_us\": " + field(m.ours) +
              ", \"floor_us\": " + field(floor) + ", \"gflop\": " + field(r.flops * 1e-9) + ", \"mbyte\": " + field(r.bytes * 1e-6) +
              ", \"rival\": \"" + r.rival + "\", \"rival_us\": " + field(m.rival) + "}";
      first = false;
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_cuda_operators: error: %s\n", e.what());
    return 1;
  }
  if (!json_file.empty()) {
    json += std::string("\n ],\n \"device\": \"") + (have_device ? device.name : "none: not measured") + "\"\n}\n";
    std::FILE* f = std::fopen(json_file.c_str(), "w");
    if (!f || std::fwrite(json.data(), 1, json.size(), f) != json.size() || std::fclose(f) != 0) {
      std::fprintf(stderr, "bench_cuda_operators: error: cannot write %s\n", json_file.c_str());
      return 4;
    }
  }
  return have_device ? 0 : 77;
}
