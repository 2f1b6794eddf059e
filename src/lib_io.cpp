// SPDX-License-Identifier: MIT
// librsseg: files and reports.
#define RSSEG_IO_LIBRARY 1
#include "rsseg/io/io.hpp"
#include "rsseg/train/report.hpp"
