// SPDX-License-Identifier: MIT
// librsseg_cuda's one file for the C++ compiler; everything else in it comes from nvcc.
namespace rsseg::cuda {
const char* library_name();
const char* library_name() { return "librsseg_cuda"; }
}  // namespace rsseg::cuda
