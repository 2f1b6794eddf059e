// SPDX-License-Identifier: MIT
// Everything of rsseg::io.
#pragma once
#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/half.hpp"
#include "rsseg/io/image.hpp"
#include "rsseg/io/palette.hpp"
#include "rsseg/io/raster.hpp"
#include "rsseg/io/safetensors.hpp"
