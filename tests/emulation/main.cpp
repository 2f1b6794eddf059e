// SPDX-License-Identifier: MIT
// main of the tests of kernels.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
