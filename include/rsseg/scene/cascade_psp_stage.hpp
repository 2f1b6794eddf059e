// SPDX-License-Identifier: MIT
// CascadePSP's loop (Cheng et al., CVPR 2020, sections 3.2 and 3.4) as a stage: every class is a binary mask that is refined, then the classes
// compete.
//   global  the window, brought to at most `size` pixels a side: three passes -> s1 and s4 at that extent
//   local   when the window is larger: crops of `size` at full resolution, each with the global result as its mask and the global s4 as the first
//   guess,
//           two passes; crops without a contour (foreground below 10 % or above 90 %) keep the global result; 16 pixels inside a crop's border are
//           dropped, the rest is averaged
// A window stage: windows of `region` pixels, blended over a ramp. With region <= size there is no local step, as in the paper for small images.
#pragma once
#include "rsseg/layers/naming.hpp"
#include "rsseg/nets/cascade_psp.hpp"
#include "rsseg/scene/stages_trained.hpp"

namespace rsseg {

/// Passes two and three with a given first guess: inputs image, seg, guess (N,1,H,W), masks in [-1, 1]. Weights of CascadePSP<_, Depth, Width>.
template <int Depth = 50, int Width = 64>
struct CascadePSPLocal {
  static constexpr void build(builder& b) {
    const value image = b.input("image", from_data), mask = b.input("seg", 1), guess = b.input("guess", 1);
    const auto tanh = [&](value v) { return graph::ops::unary(b, v, function::tanh); };
    const cascade_scores second = cascade_pass(b, image, mask, guess, guess, 2, Depth, Width, Width < 64);
    const shared_weights shared(b);
    const cascade_scores third = cascade_pass(b, image, mask, tanh(second.s8), tanh(second.s4), 3, Depth, Width, Width < 64);
    b.output("out_224", third.s1, 1);
  }
};

namespace scene {

namespace detail {
/// One plane (h, w) to another extent: mean over source pixels when it shrinks, bilinear when it grows.
inline std::vector<float> resized_plane(const std::vector<float>& in, int h, int w, int to_h, int to_w, int channels = 1) {
  if (h == to_h && w == to_w) return in;
  std::vector<float> out(std::size_t(to_h) * std::size_t(to_w) * std::size_t(channels));
  for (int y = 0; y < to_h; ++y)
    for (int x = 0; x < to_w; ++x) {
      float* to = out.data() + (std::size_t(y) * std::size_t(to_w) + std::size_t(x)) * std::size_t(channels);
      if (to_h >= h) {
        sample_scores(in.data(), h, w, channels, to_h, to_w, y, x, to);
        continue;
      }
      const int y0 = int(std::int64_t(y) * h / to_h), y1 = std::max(y0 + 1, int(std::int64_t(y + 1) * h / to_h));
      const int x0 = int(std::int64_t(x) * w / to_w), x1 = std::max(x0 + 1, int(std::int64_t(x + 1) * w / to_w));
      for (int v = y0; v < y1; ++v)
        for (int u = x0; u < x1; ++u)
          for (int c = 0; c < channels; ++c)
            to[c] += in[(std::size_t(v) * std::size_t(w) + std::size_t(u)) * std::size_t(channels) + std::size_t(c)] / float((y1 - y0) * (x1 - x0));
    }
  return out;
}
}  // namespace detail

struct cascade_options {
  int size = 900;    ///< largest side a network sees
  int stride = 450;  ///< of local crops; the step is 32 less
  int ramp = 16;
};

class cascade_psp_stage final : public trained_stage {
 public:
  /// local: the same weights in a CascadePSPLocal; may be null when regions fit.
  cascade_psp_stage(refiner whole, std::unique_ptr<placed_network> local, const cascade_options& o, int tile, std::string name)
      : trained_stage(std::move(whole), tile, std::move(name)), local_(std::move(local)), o_(o) {}
  stage_reach reach() const override { return {2 * o_.ramp, 1, o_.ramp}; }
  void check(const io::raster_info& image, int) const override {
    if (image.bands != r_.bands)
      throw usage_error("stage " + r_.name + " was trained on " + std::to_string(r_.bands) + " bands, the image has " + std::to_string(image.bands));
  }

  void refine(stage_window& w) override {
    const std::size_t k = std::size_t(w.classes), pixels = std::size_t(w.w) * std::size_t(w.h);
    std::vector<float> image(w.image.size()), mask(pixels), total(pixels, 0.0f), result(pixels * k);
    for (std::size_t i = 0; i < image.size(); ++i) {
      const int band = int(i % std::size_t(w.bands));
      image[i] = (w.image[i] - r_.normalize.mean_of(band)) / r_.normalize.std_of(band);
    }
    for (std::size_t c = 0; c < k; ++c) {
      bool any = false;
      for (std::size_t i = 0; i < pixels; ++i) {
        const float* p = w.scores.data() + i * k;
        const bool is = std::size_t(detail::argmax(p, int(k))) == c;
        mask[i] = is ? 1.0f : -1.0f, any = any || is;
      }
      // A class that is nowhere the most probable has no contour to refine.
      const std::vector<float> p = any ? binary(image, mask, w.h, w.w, w.bands) : std::vector<float>();
      for (std::size_t i = 0; i < pixels; ++i) result[i * k + c] = any ? p[i] : 0.0f, total[i] += result[i * k + c];
    }
    for (std::size_t i = 0; i < pixels; ++i)
      for (std::size_t c = 0; c < k; ++c)
        if (total[i] > 1e-6f) w.scores[i * k + c] = result[i * k + c] / total[i];
  }

 private:
  static float sigmoid(float z) { return 1 / (1 + std::exp(-z)); }
  static int legal(int n) { return std::max(48, (n + 7) / 8 * 8); }

  /// Runs a model on planes of one extent, padded to a legal one: image 0, masks -1.
  template <class Read>
  void run(placed_network& model, const std::vector<float>& image, int bands, std::initializer_list<const std::vector<float>*> masks, int h, int w,
           const Read& read) {
    const int ph = legal(h), pw = legal(w);
    const auto padded = [&](const std::vector<float>& plane, int channels, float value) {
      tensor<float> t(shape{1, channels, ph, pw}, value);
      for (int y = 0; y < h; ++y)
        std::copy_n(plane.data() + std::size_t(y) * std::size_t(w * channels), w * channels, t.data() + std::size_t(y) * std::size_t(pw * channels));
      return t;
    };
    std::vector<tensor<float>> in{padded(image, bands, 0)};
    for (const auto* m : masks) in.push_back(padded(*m, 1, -1));
    std::vector<const tensor<float>*> inputs;
    for (const auto& t : in) inputs.push_back(&t);
    model.run(inputs);
    read([&](std::string_view name) {
      const tensor<float> t = model.output(name);
      std::vector<float> plane(std::size_t(h) * std::size_t(w));
      for (int y = 0; y < h; ++y)
        for (int x = 0; x < w; ++x) plane[std::size_t(y) * std::size_t(w) + std::size_t(x)] = sigmoid(t(0, 0, y, x));
      return plane;
    });
  }

  /// Foreground probabilities (h, w) for a mask in {-1, 1}.
  std::vector<float> binary(const std::vector<float>& image, const std::vector<float>& mask, int h, int w, int bands) {
    const double shrink = std::min(1.0, double(o_.size) / std::max(h, w));
    const int gh = std::max(1, int(std::lround(h * shrink))), gw = std::max(1, int(std::lround(w * shrink)));
    std::vector<float> s1, s4;
    const auto small_mask = detail::resized_plane(mask, h, w, gh, gw);
    run(*r_.model, detail::resized_plane(image, h, w, gh, gw, bands), bands, {&small_mask}, gh, gw,
        [&](const auto& output) { s1 = output("out_224"), s4 = output("out_56_2"); });
    std::vector<float> p = detail::resized_plane(s1, gh, gw, h, w);
    if (shrink == 1 || !local_) return p;
    const std::vector<float> guess = detail::resized_plane(s4, gh, gw, h, w);
    std::vector<float> sum(p.size(), 0.0f), count(p.size(), 0.0f);
    const int step = std::max(1, o_.stride - 32);
    const auto begins = [&](int extent) {
      std::vector<int> b;
      for (int at = 0; at == 0 || b.back() + o_.size < extent; at += step) b.push_back(std::min(at, std::max(0, extent - o_.size)));
      return b;
    };
    for (const int y0 : begins(h))
      for (const int x0 : begins(w)) {
        const int ch = std::min(o_.size, h), cw = std::min(o_.size, w);
        std::vector<float> im(std::size_t(ch) * std::size_t(cw) * std::size_t(bands)), seg(std::size_t(ch) * std::size_t(cw)), first(seg.size());
        std::int64_t foreground = 0;
        for (int y = 0; y < ch; ++y)
          for (int x = 0; x < cw; ++x) {
            const std::size_t from = std::size_t(y0 + y) * std::size_t(w) + std::size_t(x0 + x),
                              to = std::size_t(y) * std::size_t(cw) + std::size_t(x);
            std::copy_n(image.data() + from * std::size_t(bands), bands, im.data() + to * std::size_t(bands));
            seg[to] = p[from] > 0.5f ? 1.0f : -1.0f, first[to] = 2 * guess[from] - 1, foreground += p[from] > 0.5f;
          }
        const double share = double(foreground) / double(seg.size());
        if (share < 0.1 || share > 0.9) continue;
        run(*local_, im, bands, {&seg, &first}, ch, cw, [&](const auto& output) {
          const std::vector<float> q = output("out_224");
          // What lies inside the window's own border is kept up to it.
          const int top = y0 > 0 ? 16 : 0, left = x0 > 0 ? 16 : 0, bottom = y0 + ch < h ? 16 : 0, right = x0 + cw < w ? 16 : 0;
          for (int y = top; y < ch - bottom; ++y)
            for (int x = left; x < cw - right; ++x) {
              const std::size_t at = std::size_t(y0 + y) * std::size_t(w) + std::size_t(x0 + x);
              sum[at] += q[std::size_t(y) * std::size_t(cw) + std::size_t(x)], count[at] += 1;
            }
        });
      }
    for (std::size_t i = 0; i < p.size(); ++i)
      if (count[i] > 0) p[i] = sum[i] / count[i];
    return p;
  }

  std::unique_ptr<placed_network> local_;
  cascade_options o_;
};

}  // namespace scene
}  // namespace rsseg
