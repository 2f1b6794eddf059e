// SPDX-License-Identifier: MIT
// Sources and random operators: constants, normal noise, dropout. The draws are defined in core/draws.hpp.
#pragma once
#include "rsseg/core/draws.hpp"
#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/loops.hpp"

namespace rsseg::cpu {

template <class T>
void constant(const call<T>& c) {
  fill(c.extent().size(), c.out(), T(c.at().alpha));
}

/// Standard normal numbers; element i is number i % 4 of block i / 4 of the node's stream.
template <class T>
void noise(const call<T>& c) {
  const std::uint64_t seed = c.state->seed, stream = noise_stream(c.g->name_of(c.id), c.state->step);
  const std::int64_t size = c.extent().size(), chunk = 4096;
  T* y = c.out();
  parallel_for((size + chunk - 1) / chunk, [&](std::int64_t i) {
    const std::int64_t end = (i + 1) * chunk < size ? (i + 1) * chunk : size;
    for (std::int64_t e = i * chunk; e < end; e += 4) {
      const normal_block draws = normal_draws(seed, stream, std::uint64_t(e / 4));
      for (int k = 0; k < 4 && e + k < end; ++k) y[e + k] = T(draws.v[k]);
    }
  });
}

/// Element i stays when word i % 4 of block i / 4 is not below p; flag: one draw per image and channel, element n * C + c.
template <class T>
void dropout(const call<T>& c) {
  const std::uint64_t seed = c.state->seed, stream = dropout_stream(c.at().begin, c.state->step);
  const float p = float(c.at().alpha);
  const T factor = T(1 / (1 - c.at().alpha));
  const shape s = c.extent();
  const T* x = c.in(0);
  T* y = c.out();
  if (!c.at().flag) {
    sweep<T>(s.size(), flat_chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
      for (std::int64_t i = b; i < e; i += 4) {
        const philox_block words = philox(seed, stream, std::uint64_t(i / 4));
        for (int k = 0; k < 4 && i + k < e; ++k) y[i + k] = unit_float(words.v[k]) < p ? T(0) : x[i + k] * factor;
      }
    });
    return;
  }
  const std::int64_t pixels = std::int64_t(s.h) * s.w, strips = (pixels + 255) / 256;  // a strip draws its channels' words again: cheap
  const int channels = s.c;
  sweep<T>(s.n * strips, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t item = b; item < e; ++item) {
      const std::int64_t n = item / strips, first = item % strips * 256, last = first + 256 < pixels ? first + 256 : pixels;
      for (int begin = 0; begin < channels; begin += 64) {
        const int count = channels - begin < 64 ? channels - begin : 64;
        T scale[64];
        for (int k = 0; k < count; ++k) {
          const std::uint64_t d = std::uint64_t(n) * std::uint64_t(channels) + std::uint64_t(begin + k);
          scale[k] = unit_float(philox(seed, stream, d / 4).v[d % 4]) < p ? T(0) : factor;
        }
        for (std::int64_t i = first; i < last; ++i) {
          const T* from = x + (n * pixels + i) * channels + begin;
          T* to = y + (n * pixels + i) * channels + begin;
          RSSEG_INDEPENDENT
          for (int k = 0; k < count; ++k) to[k] = from[k] * scale[k];
        }
      }
    }
  });
}

}  // namespace rsseg::cpu
