// SPDX-License-Identifier: MIT
// Sums over pixels, channel by channel: what batch statistics, bias gradients and global pooling are made of.
// A tensor is seen as images x rows x channels. Rows are cut into chunks by size alone, every chunk leaves its sums in the workspace,
// and the chunks are joined first to last: the same bits with any number of threads. Few channels are laid side by side ("lanes":
// several pixels per vector row) so that the inner loop stays long. Inside a chunk, single precision adds at most `block_rows` numbers
// before it moves into double precision.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rsseg/cpu/loops.hpp"

namespace rsseg::cpu {

inline constexpr int column_tile = 256;  ///< channels per work item
inline constexpr int block_rows = 32;

/// Columns of a vector row: the channels, or several pixels' channels if those are few. Parameters per channel are repeated to fill it.
constexpr int lane_count(int channels) { return channels >= 32 ? channels : 64 / channels * channels; }

struct column_cut {
  std::int64_t rows = 0, chunk = 1;  // per image; rows per chunk, a multiple of the pixels of a vector row
  int images = 1, channels = 1, tiles = 1, chunks = 1;
};
constexpr column_cut cut_columns(int images, std::int64_t rows, int channels) {
  column_cut c;
  c.images = images, c.rows = rows, c.channels = channels;
  c.tiles = (channels + column_tile - 1) / column_tile;
  const int width = channels < column_tile ? channels : column_tile, group = lane_count(channels) / channels;
  std::int64_t chunk = 32768 / width;
  if (chunk < (rows + 63) / 64) chunk = (rows + 63) / 64;
  c.chunk = (chunk + group - 1) / group * group;
  c.chunks = int((rows + c.chunk - 1) / c.chunk);
  return c;
}
/// Doubles that `sums` partial sums per channel need.
constexpr std::int64_t column_space(const column_cut& c, int sums) { return std::int64_t(c.images) * c.chunks * sums * c.channels; }

namespace detail {
/// Rows [first, last) and channels [c0, c0 + width) of one image, for a work item of sum_columns or column_moments.
struct column_item {
  std::int64_t image, first, last;
  int c0, width, group, chunk;
};
constexpr column_item item_of(const column_cut& cut, std::int64_t item) {
  column_item i;
  const int tile = int(item % cut.tiles);
  item /= cut.tiles;
  i.chunk = int(item % cut.chunks), i.image = item / cut.chunks;
  i.first = i.chunk * cut.chunk, i.last = i.first + cut.chunk < cut.rows ? i.first + cut.chunk : cut.rows;
  i.c0 = tile * column_tile, i.width = cut.channels - i.c0 < column_tile ? cut.channels - i.c0 : column_tile;
  i.group = cut.channels >= 32 ? 1 : 64 / cut.channels;
  return i;
}
}  // namespace detail

/// partial[image][chunk][k][channel] = sum over the chunk's pixels of term k, of two tensors whose pixels are pitch_0 and pitch_1 elements apart.
/// term(offset of the element in either, column of the vector row, t) sets t[K].
template <class T, int K, class Term>
inline void sum_chunks(const column_cut& cut, double* partial, std::int64_t pitch_0, std::int64_t pitch_1, const Term& term) {
  sweep<T>(std::int64_t(cut.images) * cut.chunks * cut.tiles, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t item = b; item < e; ++item) {
      const detail::column_item it = detail::item_of(cut, item);
      const int lanes = it.width * it.group;  // a vector row is `group` pixels (one, if channels are many)
      // It lies in memory in one piece, or, in columns of wider tensors, pixel by pixel.
      const bool dense = pitch_0 == cut.channels && pitch_1 == cut.channels;
      const int pieces = dense ? 1 : it.group, length = dense ? lanes : it.width;
      double total[K][column_tile];
      T sum[K][column_tile];
      for (int k = 0; k < K; ++k)
        for (int j = 0; j < lanes; ++j) total[k][j] = 0;
      for (std::int64_t r = it.first; r < it.last; r += std::int64_t(block_rows) * it.group) {
        const std::int64_t stop = r + std::int64_t(block_rows) * it.group < it.last ? r + std::int64_t(block_rows) * it.group : it.last;
        for (int k = 0; k < K; ++k)
          for (int j = 0; j < lanes; ++j) sum[k][j] = 0;
        std::int64_t row = r;
        for (; row + 2 * it.group <= stop; row += 2 * it.group) {
          for (int piece = 0, lane = 0; piece < pieces; ++piece, lane += length) {
            const std::int64_t pixel = it.image * cut.rows + row + piece;
            const std::int64_t at = pixel * pitch_0 + it.c0, next = at + it.group * pitch_0;
            const std::int64_t at_1 = pixel * pitch_1 + it.c0, next_1 = at_1 + it.group * pitch_1;
            for (int j = 0; j < length; ++j) {
              T t[K], u[K];
              term(at + j, at_1 + j, it.c0 + lane + j, t);
              term(next + j, next_1 + j, it.c0 + lane + j, u);
              for (int k = 0; k < K; ++k) sum[k][lane + j] += t[k] + u[k];
            }
          }
        }
        for (; row < stop; row += it.group) {  // the last one may hold fewer pixels
          const int pixels = stop - row < it.group ? int(stop - row) : it.group;
          const int valid_pieces = dense ? 1 : pixels, valid = dense ? pixels * it.width : it.width;
          for (int piece = 0, lane = 0; piece < valid_pieces; ++piece, lane += length) {
            const std::int64_t pixel = it.image * cut.rows + row + piece, at = pixel * pitch_0 + it.c0, at_1 = pixel * pitch_1 + it.c0;
            for (int j = 0; j < valid; ++j) {
              T t[K];
              term(at + j, at_1 + j, it.c0 + lane + j, t);
              for (int k = 0; k < K; ++k) sum[k][lane + j] += t[k];
            }
          }
        }
        for (int k = 0; k < K; ++k)
          for (int j = 0; j < lanes; ++j) total[k][j] += double(sum[k][j]);
      }
      double* to = partial + (it.image * cut.chunks + it.chunk) * K * cut.channels + it.c0;
      for (int k = 0; k < K; ++k)
        for (int j = 0; j < it.width; ++j) {
          double s = total[k][j];
          for (int g = 1; g < it.group; ++g) s += total[k][g * it.width + j];
          to[std::int64_t(k) * cut.channels + j] = s;
        }
    }
  });
}

/// The same, joined over the chunks: sum k of an image's channel is at partial[column_at(cut, K, image, k) + channel].
template <class T, int K, class Term>
inline void sum_columns(const column_cut& cut, double* partial, std::int64_t pitch_0, std::int64_t pitch_1, const Term& term) {
  sum_chunks<T, K>(cut, partial, pitch_0, pitch_1, term);
  const std::int64_t width = std::int64_t(K) * cut.channels;
  for (int image = 0; image < cut.images; ++image) {
    double* first = partial + std::int64_t(image) * cut.chunks * width;
    for (int chunk = 1; chunk < cut.chunks; ++chunk)
      for (std::int64_t j = 0; j < width; ++j) first[j] += first[chunk * width + j];
  }
}
constexpr std::int64_t column_at(const column_cut& cut, int sums, int image, int k) {
  return (std::int64_t(image) * cut.chunks * sums + k) * cut.channels;
}

/// Joins two sets of count, mean and sum of squared deviations (Chan, Golub and LeVeque 1979).
RSSEG_ALWAYS_INLINE void join_moments(double& count, double& mean, double& m2, double other_count, double other_mean, double other_m2) {
  if (other_count == 0) return;
  const double total = count + other_count, delta = other_mean - mean;
  mean += delta * (other_count / total);
  m2 += other_m2 + delta * delta * (count * (other_count / total));
  count = total;
}

/// Mean and sum of squared deviations of every channel of every image: partial[column_at(cut, 2, image, 0 or 1) + channel].
/// Blocks are small enough for the cache and are read twice: the deviations are taken from the block's own mean, so that nothing cancels.
template <class T>
inline void column_moments(const column_cut& cut, const T* x, std::int64_t pitch, double* partial) {
  sweep<T>(std::int64_t(cut.images) * cut.chunks * cut.tiles, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t item = b; item < e; ++item) {
      const detail::column_item it = detail::item_of(cut, item);
      const int lanes = it.width * it.group;
      const int pieces = pitch == cut.channels ? 1 : it.group, length = pitch == cut.channels ? lanes : it.width;  // as in sum_chunks
      const std::int64_t step = it.group * pitch, deep = std::int64_t(block_rows) * it.group;
      double mean[column_tile], m2[column_tile];
      T center[column_tile], first[column_tile], second[column_tile];
      for (int j = 0; j < lanes; ++j) mean[j] = m2[j] = 0;
      double count = 0, last_count[2] = {0, 0};  // of whole vector rows; of the lanes below and from `cut_lane` on, at the end
      int cut_lane = 0;
      for (std::int64_t r = it.first; r < it.last; r += deep) {
        const std::int64_t stop = r + deep < it.last ? r + deep : it.last;
        const int whole = int((stop - r) / it.group), rest = int((stop - r) % it.group) * it.width;
        const T* from = x + (it.image * cut.rows + r) * pitch + it.c0;
        if (whole > 0) {
          const T inverse = T(1) / T(whole);
          for (int j = 0; j < lanes; ++j) first[j] = second[j] = 0;
          for (int i = 0; i < whole; ++i)
            for (int piece = 0, lane = 0; piece < pieces; ++piece, lane += length) {
              const T* p = from + i * step + piece * pitch;
              for (int j = 0; j < length; ++j) first[lane + j] += p[j];
            }
          for (int j = 0; j < lanes; ++j) center[j] = first[j] * inverse, first[j] = 0;
          for (int i = 0; i < whole; ++i)
            for (int piece = 0, lane = 0; piece < pieces; ++piece, lane += length) {
              const T* p = from + i * step + piece * pitch;
              for (int j = 0; j < length; ++j) {
                const T d = p[j] - center[lane + j];
                first[lane + j] += d, second[lane + j] += d * d;
              }
            }
          const double total = count + whole, share = whole / total, both = count * share, each = 1.0 / whole;
          for (int j = 0; j < lanes; ++j) {  // join_moments, with the same counts in all lanes
            const double residue = double(first[j]), block_mean = double(center[j]) + residue * each, delta = block_mean - mean[j];
            mean[j] += delta * share;
            m2[j] += double(second[j]) - residue * residue * each + delta * delta * both;
          }
          count = total;
        }
        for (int j = 0; j < rest; ++j) {
          double n = count;
          join_moments(n, mean[j], m2[j], 1, double(from[whole * step + j / it.width * pitch + j % it.width]), 0);
        }
        if (rest > 0) cut_lane = rest;
      }
      last_count[0] = count + 1, last_count[1] = count;
      double* to = partial + (it.image * cut.chunks + it.chunk) * 2 * cut.channels + it.c0;
      for (int j = 0; j < it.width; ++j) {
        double n = last_count[j >= cut_lane], m = mean[j], s = m2[j];
        for (int g = 1; g < it.group; ++g) {
          const int lane = g * it.width + j;
          join_moments(n, m, s, last_count[lane >= cut_lane], mean[lane], m2[lane]);
        }
        to[j] = m, to[cut.channels + j] = s;
      }
    }
  });
  for (int image = 0; image < cut.images; ++image) {
    double* first = partial + std::int64_t(image) * cut.chunks * 2 * cut.channels;
    for (int chunk = 1; chunk < cut.chunks; ++chunk) {
      const double* other = first + std::int64_t(chunk) * 2 * cut.channels;
      const double before = double(chunk * cut.chunk);
      const double added = double((chunk + 1) * cut.chunk < cut.rows ? cut.chunk : cut.rows - chunk * cut.chunk);
      for (int j = 0; j < cut.channels; ++j) {
        double n = before;
        join_moments(n, first[j], first[cut.channels + j], added, other[j], other[cut.channels + j]);
      }
    }
  }
}

}  // namespace rsseg::cpu
