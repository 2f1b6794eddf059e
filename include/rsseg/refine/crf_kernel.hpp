// SPDX-License-Identifier: MIT
// Gaussian kernels of a fully connected CRF. It lives under the networks, where a layer uses it: cpu/crf/crf_kernel.hpp.
#pragma once
#include "rsseg/cpu/crf/crf_kernel.hpp"
#include "rsseg/refine/permutohedral.hpp"

namespace rsseg::refine {
using cpu::crf::crf_kernel;
using cpu::crf::crf_kernel_options;
using cpu::crf::crf_method;
using cpu::crf::crf_normalization;
}  // namespace rsseg::refine
