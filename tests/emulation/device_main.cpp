// SPDX-License-Identifier: MIT
// main of the executor's tests on a real device: the same cases as on the emulation, linked with librsseg_cuda. Ends with 77 (skipped) and the
// reason where no device can be used.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "rsseg/model/cuda_model.hpp"
#include "rsseg/nets/unet.hpp"

int main(int argc, char** argv) {
  try {
    rsseg::Model<rsseg::UNet<2, 4>, rsseg::on_cuda> probe;
    std::printf("%s\n", probe.device().describe().c_str());
  } catch (const rsseg::error& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  doctest::Context context(argc, argv);
  context.addFilter("test-case-exclude", "executor: devices that cannot be used*");  // which are emulated
  return context.run();
}
