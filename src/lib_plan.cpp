// SPDX-License-Identifier: MIT
// librsseg: the memory plan.
#define RSSEG_BUILDING 1
#include "rsseg/plan/memory_plan.hpp"
