// SPDX-License-Identifier: MIT
// librsseg: the table of CPU kernels, float and double.
#define RSSEG_BUILDING 1
#include "rsseg/cpu/table.hpp"

namespace rsseg::cpu {
template const kernel_entry<float>& entry_of<float>(graph::op);
template const kernel_entry<double>& entry_of<double>(graph::op);
}  // namespace rsseg::cpu
