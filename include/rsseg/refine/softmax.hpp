// SPDX-License-Identifier: MIT
// Softmax over the channels of NHWC arrays. It lives under the networks, where a layer uses it: cpu/crf/softmax.hpp.
#pragma once
#include "rsseg/cpu/crf/softmax.hpp"

namespace rsseg::refine {
using cpu::crf::softmax;
using cpu::crf::softmax_backward;
using cpu::crf::softmax_pixel;
}  // namespace rsseg::refine
