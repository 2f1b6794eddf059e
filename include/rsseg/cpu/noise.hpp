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

namespace detail {
inline constexpr int draw_blocks = 64;  // fewer, and g++ unrolls the loops instead of vectorising them
/// Words of draw_blocks neighbouring blocks of philox (core/random.hpp), all at once: one block is a chain of 40 dependent operations.
RSSEG_ALWAYS_INLINE void draw_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t index, std::uint32_t* words) {
  std::uint32_t c0[draw_blocks], c1[draw_blocks], c2[draw_blocks], c3[draw_blocks];
  for (int j = 0; j < draw_blocks; ++j) {
    c0[j] = std::uint32_t(index + std::uint64_t(j)), c1[j] = std::uint32_t((index + std::uint64_t(j)) >> 32);
    c2[j] = std::uint32_t(stream), c3[j] = std::uint32_t(stream >> 32);
  }
  std::uint32_t k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    std::uint64_t p0[draw_blocks], p1[draw_blocks];
    for (int j = 0; j < draw_blocks; ++j) p0[j] = std::uint64_t(0xD2511F53u) * std::uint64_t(c0[j]);
    for (int j = 0; j < draw_blocks; ++j) p1[j] = std::uint64_t(0xCD9E8D57u) * std::uint64_t(c2[j]);
    for (int j = 0; j < draw_blocks; ++j) c0[j] = std::uint32_t(p1[j] >> 32) ^ c1[j] ^ k0, c1[j] = std::uint32_t(p1[j]);
    for (int j = 0; j < draw_blocks; ++j) c2[j] = std::uint32_t(p0[j] >> 32) ^ c3[j] ^ k1, c3[j] = std::uint32_t(p0[j]);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  for (int j = 0; j < draw_blocks; ++j) words[4 * j] = c0[j], words[4 * j + 1] = c1[j], words[4 * j + 2] = c2[j], words[4 * j + 3] = c3[j];
}
}  // namespace detail

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
      std::uint32_t words[4 * detail::draw_blocks];
      for (std::int64_t i = b; i < e; i += 4 * detail::draw_blocks) {
        detail::draw_words(seed, stream, std::uint64_t(i / 4), words);
        const int n = e - i < 4 * detail::draw_blocks ? int(e - i) : 4 * detail::draw_blocks;
        RSSEG_INDEPENDENT
        for (int k = 0; k < n; ++k) {
          y[i + k] = keep_if(!(unit_float(words[k]) < p), x[i + k] * factor);
        }
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
