// SPDX-License-Identifier: MIT
// CRF as RNN. It lives under the networks, where a layer uses it: cpu/crf/crf_rnn.hpp.
#pragma once
#include "rsseg/cpu/crf/crf_rnn.hpp"

namespace rsseg::refine {
using cpu::crf::crf_rnn;
using cpu::crf::crf_rnn_options;
}  // namespace rsseg::refine
