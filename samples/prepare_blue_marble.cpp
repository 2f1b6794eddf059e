// SPDX-License-Identifier: MIT
// Makes the quickstart's data: prepare_blue_marble DIR writes image and mask GeoTIFFs of the Earth and its parts, list files
// and classes.json into DIR. See rsseg/data/blue_marble.hpp for what comes from where.
#include "rsseg/data/blue_marble.hpp"

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    std::fprintf(stderr, "usage: prepare_blue_marble DIR\n");
    return 2;
  }
  try {
    rsseg::data::prepare_blue_marble({}, argv[1]);
  } catch (const rsseg::error& e) {
    std::fprintf(stderr, "rsseg: error: %s\n", e.what());
    return e.exit_code();
  }
  std::printf("%s: images and masks of the Earth and its parts; train.txt, val.txt, test.txt; classes.json\n", argv[1]);
}
