// SPDX-License-Identifier: MIT
// A program may have an stb_image of its own, with other options, even in the same translation unit.
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_BMP
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

#include <doctest/doctest.h>

#include "rsseg/io/image.hpp"

#if !defined(STBI_ONLY_BMP) || defined(STBI_ONLY_PNG)
#error "rsseg's stb options leaked"
#endif

TEST_CASE("image: an stb_image with other options keeps them, and rsseg's keeps its own") {
  rsseg::io::image8 picture(3, 2, 3, 7);
  const std::vector<std::uint8_t> png = rsseg::io::encode_png(picture);
  CHECK(rsseg::io::decode_image(png, "png").data == picture.data);
  int width = 0, height = 0, channels = 0;
  CHECK(stbi_load_from_memory(png.data(), int(png.size()), &width, &height, &channels, 0) == nullptr);  // it knows BMP only
}
