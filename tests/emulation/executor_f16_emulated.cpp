// SPDX-License-Identifier: MIT
// The executor on the emulation: the same text that nvcc compiles.
#include "kernels/instances/executor_f16.cu"
