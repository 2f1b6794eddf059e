// SPDX-License-Identifier: MIT
// Matrix products through cuBLAS (kernels/executor/cublas.cuh) against the project's own kernel: every pair of transpositions, batches, rows with
// gaps between them, in float, bf16 and fp16. The library is a stand-in that follows its manual (stand_in/cublas_v2.h).
#include "conv_reference.hpp"
// first, since the stand-in reads their types
#include "kernels/matmul.cuh"
#define RSSEG_WITH_CUBLAS 1
#include "kernels/executor/cublas.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
template <class T>
void check_products(double tolerance) {
  executor_context x;
  x.facts.major = 8;
  const std::shared_ptr<void> engine = open_cublas(x);
  REQUIRE(engine.get() == x.cublas);
  int products = 0;
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})
      for (const int gap : {0, 3}) {
        CAPTURE(transpose_a);
        CAPTURE(transpose_b);
        CAPTURE(gap);
        matmul_shape p;
        p.rows = 7, p.columns = 5, p.depth = 11, p.batch = 3;
        p.transpose_a = transpose_a, p.transpose_b = transpose_b, p.alpha = 0.5f;
        const int row_a = transpose_a ? p.rows : p.depth, row_b = transpose_b ? p.depth : p.columns;
        if (gap) p.stride_a = row_a + gap, p.stride_b = row_b + gap, p.stride_c = p.columns + gap;
        p.batch_a = std::int64_t(row_a + gap) * (transpose_a ? p.depth : p.rows),
        p.batch_b = std::int64_t(row_b + gap) * (transpose_b ? p.columns : p.depth);
        p.batch_c = std::int64_t(p.columns + gap) * p.rows;
        const auto a = stored<T>(random_values(std::size_t(3 * p.batch_a), 1)), b = stored<T>(random_values(std::size_t(3 * p.batch_b), 2));
        const std::size_t size = std::size_t(3 * p.batch_c);
        device_array<float> wide_a(widened(a)), wide_b(widened(b)), want(std::vector<float>(size, 0.0f));
        matmul({}, p, wide_a.get(), wide_b.get(), want.get());
        device_array<T> from_a(a), from_b(b), got(stored<T>(std::vector<float>(size, 0.0f)));
        REQUIRE(cublas_product<T>(x, p, from_a.get(), from_b.get(), got.get()));
        CHECK(static_cast<cublas_engine*>(x.cublas)->handle()->products == ++products);
        const std::vector<float> expected = want.host();
        CHECK(relative_error(got.host(), std::vector<double>(expected.begin(), expected.end())) < tolerance);
      }
}
}  // namespace

TEST_CASE("matrix products through cuBLAS: transposed, in batches, with gaps between rows") {
  SUBCASE("float") { check_products<float>(1e-6); }
  SUBCASE("bf16") { check_products<bf16>(4e-3); }
  SUBCASE("fp16") { check_products<f16>(6e-4); }
}

TEST_CASE("without cuBLAS nothing is done, and a failure names the library") {
  executor_context x;
  matmul_shape p;
  float one = 1;
  CHECK_FALSE(cublas_product<float>(x, p, &one, &one, &one));
  const std::shared_ptr<void> engine = open_cublas(x);
  p.columns = 4, p.stride_b = 1;  // a row of four cannot be one apart
  CHECK_THROWS_WITH_AS(cublas_product<float>(x, p, &one, &one, &one), doctest::Contains("cublas: matrix product"), error);
}
