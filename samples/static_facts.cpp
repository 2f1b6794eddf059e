// SPDX-License-Identifier: MIT
// What the compiler knows. A network is a type, and its graph a constant: parameters, extents, cost and receptive field stand in
// static_asserts, so that a change of the architecture that alters them does not pass unnoticed. This program has nothing left to do when it
// runs but to print.
//
// Expected output:
//   unet-16 with 6 classes: 1942662 parameters, 12150898688 multiply-adds at 512 x 512
#include <rsseg/nets/unet.hpp>
#include <cstdio>
using namespace rsseg;

using Net = UNet<6, 16>;
static_assert(parameter_count<Net> == 1'942'662);
static_assert(output_of<Net>({1, 3, 512, 512}) == shape{1, 6, 512, 512});
static_assert(output_of<Net>({2, 3, 71, 45}) == shape{2, 6, 71, 45});  // odd sizes are padded back
static_assert(macs_of<Net>({1, 3, 512, 512}) == 12'150'898'688);
static_assert(receptive_field_of<Net>({1, 3, 512, 512}).h == 200);
static_assert(parameter_count<WithBands<4, Net>> - parameter_count<Net> == 16 * 3 * 3);  // one more band: one more slice of the first filters

int main() {
  std::printf("unet-16 with 6 classes: %lld parameters, %lld multiply-adds at 512 x 512\n", static_cast<long long>(parameter_count<Net>),
              static_cast<long long>(macs_of<Net>({1, 3, 512, 512})));
}
