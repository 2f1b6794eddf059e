// SPDX-License-Identifier: MIT
// The permutohedral lattice against the CPU's in double: numbers of lattice points, the filtered maps, the transpose; the same bits in every order.
#include "kernels/permutohedral.cuh"
#include "emulation_test.hpp"
#include "rsseg/cpu/crf/permutohedral.hpp"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
template <int D>
void check_lattice(std::int64_t points, int channels, double spread) {
  CAPTURE(D);
  const auto features = random_values(std::size_t(points) * D, 1, -spread, spread), in = random_values(std::size_t(points * channels), 2);
  const cpu::crf::permutohedral_lattice<double> reference(points, D, [&](std::int64_t i, double* f) {
    for (int k = 0; k < D; ++k) f[k] = double(features[std::size_t(i * D + k)]);
  });
  const std::vector<double> wide(in.begin(), in.end());
  std::vector<double> want(wide.size()), backwards(wide.size());
  reference.filter(wide.data(), want.data(), channels);
  reference.filter(wide.data(), backwards.data(), channels, true);
  std::vector<float> first;
  in_every_order([&] {
    const lattice_sizes<D> z(points);
    device_array<int> memory(lattice<D>::workspace(z));
    device_array<float> f(features), x(in), y(in.size()), work(lattice_filter_workspace(z, channels));
    const lattice<D> l(z, memory.get());
    build_lattice<D>({}, l, f.get());
    CHECK(memory.host()[0] == reference.lattice_points());
    CHECK(memory.host()[1] == 0);
    lattice_filter<D>({}, l, x.get(), y.get(), channels, work.get());
    CHECK(relative_error(y.host(), want) < 2e-6);
    if (first.empty()) first = y.host();
    CHECK(y.host() == first);
    lattice_filter<D>({}, l, x.get(), x.get(), channels, work.get(), true);
    CHECK(relative_error(x.host(), backwards) < 2e-6);
  });
}
}  // namespace

TEST_CASE("permutohedral lattice: the CPU's, in 2, 3 and 5 dimensions") {
  check_lattice<2>(301, 3, 4);  // crowded: many points per lattice point
  check_lattice<3>(150, 1, 1.5);
  check_lattice<5>(257, 7, 2);  // sparse: absent neighbours
}
TEST_CASE("permutohedral lattice: bad features are counted, bad sizes refused") {
  auto features = random_values(20, 1);
  features[3] = INFINITY, features[10] = 1e30f;
  const lattice_sizes<2> z(10);
  device_array<int> memory(lattice<2>::workspace(z));
  device_array<float> f(features);
  build_lattice<2>({}, lattice<2>(z, memory.get()), f.get());
  CHECK(memory.host()[1] == 2);
  CHECK(contains(fault_of([] { lattice_sizes<5> none(0); }), "none or too many"));
  CHECK(contains(fault_of([] { lattice_sizes<5> many(100000000); }), "filter the image in tiles"));
}
