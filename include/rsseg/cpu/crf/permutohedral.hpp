// SPDX-License-Identifier: MIT
// Gaussian filtering in d dimensions on the permutohedral lattice: Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the
// Permutohedral Lattice", Eurographics 2010. Splat to the corners of the enclosing simplex, blur along the d + 1 lattice axes, slice.
// Values are (points, channels), channels contiguous: an NHWC image with its pixels as points. O(points * d^2) whatever the radius.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"

namespace rsseg::cpu::crf {

namespace detail {

/// Open-addressed table from lattice keys (d integers; the last of the d + 1 coordinates is implied) to ids in order of insertion.
class lattice_table {
 public:
  explicit lattice_table(int d) : d_(d), slots_(1024, -1) {}
  std::int32_t size() const { return size_; }
  const std::int32_t* key(std::int32_t id) const { return keys_.data() + std::size_t(id) * d_; }
  std::size_t bytes() const { return slots_.capacity() * 4 + keys_.capacity() * 4; }

  std::int32_t find(const std::int32_t* key) const {
    for (std::size_t at = hash(key);; ++at) {
      const std::int32_t id = slots_[at &= slots_.size() - 1];
      if (id < 0 || same(id, key)) return id;
    }
  }
  std::int32_t insert(const std::int32_t* key) {
    std::size_t at = hash(key) & (slots_.size() - 1);
    while (slots_[at] >= 0) {
      if (same(slots_[at], key)) return slots_[at];
      at = (at + 1) & (slots_.size() - 1);
    }
    slots_[at] = size_;
    keys_.insert(keys_.end(), key, key + d_);
    if (std::size_t(++size_) * 2 > slots_.size()) grow();
    return size_ - 1;
  }

 private:
  bool same(std::int32_t id, const std::int32_t* key) const {
    const std::int32_t* mine = this->key(id);
    for (int i = 0; i < d_; ++i)
      if (mine[i] != key[i]) return false;
    return true;
  }
  std::size_t hash(const std::int32_t* key) const {
    std::uint64_t h = 0;
    for (int i = 0; i < d_; ++i) h = (h ^ std::uint32_t(key[i])) * 0x9E3779B97F4A7C15ull, h ^= h >> 29;
    return std::size_t(h);
  }
  void grow() {
    slots_.assign(slots_.size() * 2, -1);
    for (std::int32_t id = 0; id < size_; ++id) {
      std::size_t at = hash(key(id)) & (slots_.size() - 1);
      while (slots_[at] >= 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = id;
    }
  }
  int d_;
  std::int32_t size_ = 0;
  std::vector<std::int32_t> slots_, keys_;
};

/// The simplex around a feature: d + 1 corner keys (d integers each) and barycentric weights. Geometry is done in double for every T.
struct simplex_finder {
  static constexpr int max_d = 32;
  int d;
  double scale[max_d];

  explicit simplex_finder(int dims) : d(dims) {
    // The blur (1/2, 1, 1/2) along every axis has this standard deviation in lattice units; features are measured in Gaussian sigmas.
    const double inverse_deviation = std::sqrt(2.0 / 3.0) * (d + 1);
    for (int i = 0; i < d; ++i) scale[i] = inverse_deviation / std::sqrt(double(i + 1) * (i + 2));
  }

  /// False when the feature is not finite or too far out for 32-bit keys.
  bool operator()(const double* f, std::int32_t* keys, double* weights) const {
    double e[max_d + 1], rem[max_d + 1], sum = 0;
    int rank[max_d + 1];
    for (int j = d; j > 0; --j) {
      const double c = f[j - 1] * scale[j - 1];
      e[j] = sum - j * c;
      sum += c;
    }
    e[0] = sum;
    double excess = 0;
    for (int i = 0; i <= d; ++i) {
      if (!(std::abs(e[i]) < 1e9)) return false;
      const double v = e[i] / (d + 1), up = std::ceil(v), down = std::floor(v);
      const double nearest = up - v < v - down ? up : down;
      rem[i] = nearest * (d + 1);
      excess += nearest;
      rank[i] = 0;
    }
    for (int i = 0; i < d; ++i)
      for (int j = i + 1; j <= d; ++j) ++(e[i] - rem[i] < e[j] - rem[j] ? rank[i] : rank[j]);
    for (int i = 0; i <= d; ++i) {
      rank[i] += int(excess);
      if (rank[i] < 0) {
        rank[i] += d + 1, rem[i] += d + 1;
      } else if (rank[i] > d) {
        rank[i] -= d + 1, rem[i] -= d + 1;
      }
    }
    double b[max_d + 2] = {};
    for (int i = 0; i <= d; ++i) {
      const double v = (e[i] - rem[i]) / (d + 1);
      b[d - rank[i]] += v;
      b[d + 1 - rank[i]] -= v;
    }
    b[0] += 1 + b[d + 1];
    for (int r = 0; r <= d; ++r) {
      weights[r] = b[r];
      for (int i = 0; i < d; ++i) keys[r * d + i] = std::int32_t(rem[i]) + (rank[i] <= d - r ? r : r - (d + 1));
    }
    return true;
  }
};

}  // namespace detail

/// The lattice of a fixed set of points. Building and filtering are parallel and give the same bits for any number of threads: ids follow
/// the order of first use, and the splat is a gather over each lattice point's contributions in the order of the points.
template <class T>
class permutohedral_lattice {
 public:
  permutohedral_lattice() = default;

  /// feature(i, f) writes the d features of point i, in units of the Gaussian's standard deviation, to double* f. It is called from
  /// several threads. d in [1, 32], count >= 0.
  /// Throws usage_error for d out of range, count too large or features that are not finite.
  template <class Feature>
  permutohedral_lattice(std::int64_t count, int d, const Feature& feature) : count_(count), d_(d) {
    if (d < 1 || d > detail::simplex_finder::max_d)
      throw usage_error("permutohedral lattice: expected 1 to 32 feature dimensions, got " + std::to_string(d));
    if (count < 0 || count > std::numeric_limits<std::int32_t>::max() / (d + 1))
      throw usage_error("permutohedral lattice: " + std::to_string(count) + " points are too many for " + std::to_string(d) +
                        " dimensions; filter the image in tiles");
    build(feature);
  }

  std::int64_t points() const { return count_; }
  int dimensions() const { return d_; }
  /// Occupied lattice points.
  std::int64_t lattice_points() const { return size_; }
  /// Memory held between calls, in bytes.
  std::size_t bytes() const {
    return corner_.capacity() * 4 + weight_.capacity() * sizeof(T) + start_.capacity() * 4 + source_.capacity() * 4 + neighbour_.capacity() * 4;
  }
  /// Values of type T that filter() needs as workspace.
  std::size_t workspace(int channels) const { return 2 * std::size_t(size_ + 1) * channels; }

  /// out = slice(blur(splat(in))) / (1 + 2^-d), both (points, channels); in may be out. transpose runs the blur's axes backwards, which
  /// is the exact transpose of the linear map. work holds workspace(channels) values.
  void filter(const T* in, T* out, int channels, T* work, bool transpose = false) const {
    const std::size_t width = std::size_t(channels);
    T* from = work;
    T* to = work + std::size_t(size_ + 1) * width;
    // Row 0 stands for every absent neighbour.
    for (std::size_t k = 0; k < width; ++k) from[k] = to[k] = T(0);
    for_chunks(size_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t m = begin; m < end; ++m) {
        T* row = from + std::size_t(m + 1) * width;
        constexpr int lanes = 8;
        for (int k0 = 0; k0 < channels; k0 += lanes) {
          const int use = std::min(lanes, channels - k0);
          double sum[lanes] = {};
          for (std::int32_t s = start_[std::size_t(m)]; s < start_[std::size_t(m) + 1]; ++s) {
            const std::int32_t contribution = source_[std::size_t(s)];
            const double weight = weight_[std::size_t(contribution)];
            const T* value = in + std::size_t(contribution / (d_ + 1)) * width + k0;
            for (int k = 0; k < use; ++k) sum[k] += weight * value[k];
          }
          for (int k = 0; k < use; ++k) row[k0 + k] = T(sum[k]);
        }
      }
    });
    for (int pass = 0; pass <= d_; ++pass) {
      const std::int32_t* near = neighbour_.data() + std::size_t(transpose ? d_ - pass : pass) * size_ * 2;
      for_chunks(size_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
        for (std::int64_t m = begin; m < end; ++m) {
          const T *a = from + std::size_t(near[2 * m]) * width, *b = from + std::size_t(near[2 * m + 1]) * width;
          const T* old = from + std::size_t(m + 1) * width;
          T* row = to + std::size_t(m + 1) * width;
          for (std::size_t k = 0; k < width; ++k) row[k] = old[k] + T(0.5) * (a[k] + b[k]);
        }
      });
      std::swap(from, to);
    }
    const T alpha = T(1 / (1 + std::ldexp(1.0, -d_)));
    for_chunks(count_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t i = begin; i < end; ++i) {
        T* row = out + std::size_t(i) * width;
        for (std::size_t k = 0; k < width; ++k) row[k] = T(0);
        for (int r = 0; r <= d_; ++r) {
          const std::size_t at = std::size_t(i) * (d_ + 1) + r;
          const T weight = weight_[at] * alpha;
          const T* value = from + (std::size_t(corner_[at]) + 1) * width;
          for (std::size_t k = 0; k < width; ++k) row[k] += weight * value[k];
        }
      }
    });
  }
  /// The same with its own workspace.
  void filter(const T* in, T* out, int channels, bool transpose = false) const {
    std::vector<T> work(workspace(channels));
    filter(in, out, channels, work.data(), transpose);
  }

 private:
  static constexpr std::int64_t chunk = 4096;

  template <class Feature>
  void build(const Feature& feature) {
    const int corners = d_ + 1;
    const detail::simplex_finder find_simplex(d_);
    const std::size_t total = std::size_t(count_) * corners;
    corner_.resize(total), weight_.resize(total);
    // Each chunk numbers its own keys in parallel; the few distinct keys are then merged in the order of the chunks.
    struct local_keys {
      std::vector<std::int32_t> keys, id;
      std::int32_t count = 0;
      bool valid = true;
    };
    std::vector<local_keys> local(std::size_t(chunk_count(count_, chunk)));
    for_chunks(count_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
      detail::lattice_table table(d_);
      std::vector<std::int32_t> keys(std::size_t(corners) * d_);
      double f[detail::simplex_finder::max_d], weights[detail::simplex_finder::max_d + 1];
      local_keys& mine = local[std::size_t(index)];
      for (std::int64_t i = begin; i < end && mine.valid; ++i) {
        feature(i, f);
        if (!find_simplex(f, keys.data(), weights)) {
          mine.valid = false;
          break;
        }
        for (int r = 0; r < corners; ++r) {
          const std::size_t at = std::size_t(i) * corners + r;
          corner_[at] = table.insert(keys.data() + std::size_t(r) * d_);
          weight_[at] = T(weights[r]);
        }
      }
      mine.count = table.size();
      if (table.size() > 0) mine.keys.assign(table.key(0), table.key(0) + std::size_t(table.size()) * d_);
    });
    detail::lattice_table table(d_);
    for (local_keys& mine : local) {
      if (!mine.valid)
        throw usage_error("permutohedral lattice: a feature is not finite or larger than 1e9 standard deviations; check image and sigmas");
      mine.id.resize(std::size_t(mine.count));
      for (std::int32_t k = 0; k < mine.count; ++k) mine.id[std::size_t(k)] = table.insert(mine.keys.data() + std::size_t(k) * d_);
      mine.keys = {};
    }
    for_chunks(count_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
      for (std::size_t at = std::size_t(begin) * corners; at < std::size_t(end) * corners; ++at)
        corner_[at] = local[std::size_t(index)].id[std::size_t(corner_[at])];
    });
    size_ = table.size();
    find_neighbours(table);
    // Counting sort of the contributions by lattice point: the transpose of corner_.
    start_.assign(std::size_t(size_) + 1, 0);
    for (const std::int32_t id : corner_) ++start_[std::size_t(id) + 1];
    for (std::int64_t m = 0; m < size_; ++m) start_[std::size_t(m) + 1] += start_[std::size_t(m)];
    source_.resize(total);
    std::vector<std::int32_t> next(start_.begin(), start_.end());
    for (std::size_t at = 0; at < total; ++at) source_[std::size_t(next[std::size_t(corner_[at])]++)] = std::int32_t(at);
  }

  void find_neighbours(const detail::lattice_table& table) {
    neighbour_.resize(std::size_t(size_) * (d_ + 1) * 2);
    for_chunks(size_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      std::int32_t one[detail::simplex_finder::max_d], two[detail::simplex_finder::max_d];
      for (std::int64_t m = begin; m < end; ++m) {
        const std::int32_t* key = table.key(std::int32_t(m));
        for (int axis = 0; axis <= d_; ++axis) {
          for (int i = 0; i < d_; ++i) one[i] = key[i] - 1, two[i] = key[i] + 1;
          if (axis < d_) one[axis] = key[axis] + d_, two[axis] = key[axis] - d_;
          std::int32_t* near = neighbour_.data() + (std::size_t(axis) * size_ + m) * 2;
          near[0] = table.find(one) + 1, near[1] = table.find(two) + 1;  // absent: row 0
        }
      }
    });
  }

  std::int64_t count_ = 0, size_ = 0;
  int d_ = 1;
  std::vector<std::int32_t> corner_, start_, source_, neighbour_;
  std::vector<T> weight_;
};

}  // namespace rsseg::cpu::crf
