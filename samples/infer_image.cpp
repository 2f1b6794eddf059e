// SPDX-License-Identifier: MIT
// Weights from a file, an image of any size from a file, a map of class ids into a file:
//   infer_image WEIGHTS.safetensors IMAGE MAP.tif|MAP.png
// The network is a type, so the weights must be those of `rsseg train --net unet-16` with six classes and three bands; anything else is
// refused with the names of what does not fit. The scene is read, segmented and written by windows: memory does not grow with its height.
// Without arguments it shows itself: random weights and a generated picture go through files in a temporary directory, and the map of the
// windows is compared with that of the whole picture in one piece.
//
// Expected output (without arguments; exit code 1 from 0.01 % on):
//   2 tiles, 640 x 480 pixels, 0.0000 % of them differ from the whole picture in one piece
#include <rsseg/nets/unet.hpp>
#include <rsseg/rsseg.hpp>
#include <rsseg/scene/segment.hpp>
#include <rsseg/train/weights.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
using namespace rsseg;

using Net = UNet<6, 16>;
constexpr int tile = 512;

/// Returns the number of tiles.
std::int64_t segment_file(const std::string& weights, const std::string& image, const std::string& map) {
  Model<Net> net;
  const io::safetensors_reader file(weights);
  train::load_weights(file, net.weights());
  const auto source = io::open_raster(image);
  if (source->info().bands != 3)
    throw input_error(image + ": expected 3 bands, got " + std::to_string(source->info().bands) + "; the network is for three");

  scene::segment_options o;
  o.tile = tile;
  o.sizes = {.minimum = 16, .alignment = 16};  // four poolings: windows begin at multiples of 16, so that each sees the grid of the whole
  o.receptive_field = receptive_field_of<Net>({1, 3, tile, tile}).h;  // a halo of half of it: no seams
  const std::string normalize = train::weights_info::from(file).normalize;
  o.normalize = data::normalization::parse(normalize.empty() ? "imagenet" : normalize);

  io::raster_info out = source->info();  // size and georeference are the image's
  out.bands = 1, out.type = io::sample_type::u8, out.nodata.reset(), out.band_names.clear(), out.colors.clear();
  const auto sink = io::create_raster(map, out);
  const std::int64_t tiles = scene::segment([&](const tensor<float>& x) { return net.infer(x); }, *source, *sink, o);
  sink->close();  // only now the map appears
  return tiles;
}

/// Returns the exit code.
int demonstrate(const std::filesystem::path& dir) {
  const std::string weights = dir / "weights.safetensors", image = dir / "image.png", map = dir / "map.png";
  io::image8 picture(640, 480, 3);
  random_stream r(3, 1);
  for (std::uint8_t& v : picture.data) v = std::uint8_t(r.below(256));
  for (int y = 0; y < 480; ++y)
    for (int x = 0; x < 640; ++x) picture.at(x, y, (x / 80 + y / 60) % 3) /= 4;  // coloured fields
  io::write_image(image, picture);
  Model<Net> net;
  net.weights().initialise(1);
  train::weights_info about;
  about.normalize = "unit";
  io::write_safetensors(weights, train::weights_as_tensors(net.weights()), about.to_metadata());

  const std::int64_t tiles = segment_file(weights, image, map);

  tensor<float> whole({1, 3, 480, 640});
  for (std::size_t i = 0; i < whole.size(); ++i) whole.data()[i] = float(picture.data[i]) / 255;  // both are rows of pixels of bands
  const tensor<float> scores = net.infer(whole);
  const io::image8 ids = io::read_class_ids(map);
  std::int64_t differ = 0;
  int seen[6] = {};
  for (int y = 0; y < 480; ++y)
    for (int x = 0; x < 640; ++x) {
      int best = 0;
      for (int k = 1; k < 6; ++k)
        if (scores(0, k, y, x) > scores(0, best, y, x)) best = k;
      differ += ids.at(x, y) != best;
      seen[best] = 1;
    }
  const double percent = 100.0 * double(differ) / (640 * 480);
  std::printf("%d tiles, 640 x 480 pixels, %.4f %% of them differ from the whole picture in one piece\n", int(tiles), percent);
  int classes = 0;
  for (const int s : seen) classes += s;
  return tiles == 2 && classes > 1 && percent < 0.01 ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc != 1 && argc != 4) {
    std::fprintf(stderr, "usage: infer_image [WEIGHTS IMAGE MAP]\n");
    return 2;
  }
  try {
    if (argc == 4) {
      std::printf("%s: %d tiles\n", argv[3], int(segment_file(argv[1], argv[2], argv[3])));
      return 0;
    }
    std::string dir = std::filesystem::temp_directory_path() / "rsseg-infer-XXXXXX";
    if (!::mkdtemp(dir.data())) throw output_error(dir + ": no such directory can be made; set TMPDIR");
    struct removal {
      std::string path;
      ~removal() { std::filesystem::remove_all(path); }
    } remove_at_end{dir};
    return demonstrate(dir);
  } catch (const error& e) {
    std::fprintf(stderr, "infer_image: error: %s\n", e.what());
    return e.exit_code();
  }
}
