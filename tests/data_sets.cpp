// SPDX-License-Identifier: MIT
// Every public data set on a generated miniature tree: split sizes, codings, colours there and back; dataset check; the Blue Marble set.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "data_helpers.hpp"
#include "rsseg/data/check.hpp"
#if defined(RSSEG_WITH_GDAL)
#include "rsseg/data/blue_marble.hpp"
#endif

using namespace rsseg;
using namespace rsseg::data;
using test::has;
using test::message_of;
using ids = std::vector<std::uint8_t>;

namespace {

std::shared_ptr<const dataset> opened(const std::string& name, const test::temporary_folder& t, const std::string& part) {
  return open_dataset(name + ":" + t.path.string() + ":" + part);
}
ids first(const dataset& set, std::size_t i, std::size_t n) {
  const ids all = set.load(i)->labels.ids;
  return ids(all.begin(), all.begin() + std::ptrdiff_t(n));
}
ids counting(std::size_t n) {
  ids v;
  for (std::size_t i = 0; i < n; ++i) v.push_back(std::uint8_t(i));
  return v;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("deepglobe: colours, impure masks, split by published ids, both layouts") {
  test::temporary_folder t;
  auto mask_colours = deepglobe_classes().palette;
  mask_colours.push_back({3, 250, 130});  // impure cyan
  mask_colours.push_back({255, 0, 0});    // means nothing
  mask_colours.push_back({0, 0, 0});
  // 119 and 266 are in the list for training, 99999999 in none
  for (const std::string id : {"119", "266", "100877", "10452", "99999999"}) {
    test::put_picture(t.path / "land-train" / (id + "_sat.jpg"), 16, 16);
    test::put_colours(t.path / "land-train" / (id + "_mask.png"), 16, 16, mask_colours);
  }
  const auto train = opened("deepglobe", t, "train");
  REQUIRE(train->size() == 2);
  CHECK(train->classes().count() == 7);
  ids expected = counting(7);
  expected.insert(expected.end(), {1, 255, 0});
  CHECK(first(*train, 0, 10) == expected);
  CHECK(opened("deepglobe", t, "all")->size() == 5);
  CHECK(std::size(deepglobe_split::train) == 454);
  CHECK(std::size(deepglobe_split::val) == 207);
  CHECK(std::size(deepglobe_split::test) == 142);
  std::set<std::int32_t> distinct(std::begin(deepglobe_split::train), std::end(deepglobe_split::train));
  distinct.insert(std::begin(deepglobe_split::val), std::end(deepglobe_split::val));
  distinct.insert(std::begin(deepglobe_split::test), std::end(deepglobe_split::test));
  CHECK(distinct.size() == 803);
  test::temporary_folder g;
  test::put_picture(g.path / "train/Sat/119_sat.jpg", 16, 16);
  test::put_colours(g.path / "train/Label/119_mask.png", 16, 16, mask_colours);
  CHECK(opened("deepglobe", g, "train")->size() == 1);
  CHECK(has(message_of<usage_error>([&] { opened("deepglobe", t, "dev"); }), "train, val, test, all"));
  CHECK(has(message_of<input_error>([&] { opened("deepglobe", g, "val"); }), "deepglobe"));
}

TEST_CASE("isic2018: threshold, and a fixed split into disjoint parts") {
  test::temporary_folder t;
  for (int i = 0; i < 20; ++i) {
    const std::string name = "ISIC_00000" + std::to_string(10 + i);
    test::put_picture(t.path / "ISIC2018_Task1-2_Training_Input" / (name + ".jpg"), 16, 16);
    test::put_grey(t.path / "ISIC2018_Task1_Training_GroundTruth" / (name + "_segmentation.png"), 16, 16, {0, 127, 128, 255, 0});
  }
  test::put((t.path / "ISIC2018_Task1-2_Training_Input/LICENSE.txt").string(), std::string("text"));
  std::set<std::string> names;
  std::size_t sizes[3], k = 0;
  for (const char* part : {"train", "val", "test"}) {
    const auto set = opened("isic2018", t, part);
    sizes[k++] = set->size();
    for (std::size_t i = 0; i < set->size(); ++i) names.insert(set->name(i));
    CHECK(first(*set, 0, 5) == ids{0, 0, 1, 1, 0});
  }
  CHECK(sizes[0] == 16);
  CHECK(sizes[1] == 2);
  CHECK(sizes[2] == 2);
  CHECK(names.size() == 20);
  CHECK(opened("isic2018", t, "all")->size() == 20);
}

TEST_CASE("inria: tiles 1 to 5 of each city are the validation part" * doctest::skip(!io::has_gdal())) {
  test::temporary_folder t;
  for (const std::string name : {"austin1", "austin5", "austin6", "austin15", "tyrol-w3", "vienna36"}) {
    test::put_tif(t.path / "AerialImageDataset/train/images" / (name + ".tif"), test::coloured(16, 16, {{1, 2, 3}}));
    test::put_tif(t.path / "AerialImageDataset/train/gt" / (name + ".tif"), test::grey(16, 16, {255, 0}));
  }
  test::put_tif(t.path / "AerialImageDataset/test/images/sfo1.tif", test::coloured(16, 16, {{1, 2, 3}}));
  CHECK(opened("inria", t, "train")->size() == 3);
  const auto val = opened("inria", t, "val");
  CHECK(val->size() == 3);
  CHECK(val->name(2) == "tyrol-w3");
  CHECK(first(*val, 0, 3) == ids{1, 0, 0});
  CHECK(opened("inria", t, "all")->size() == 6);
  const auto withheld = opened("inria", t, "test");
  CHECK(first(*withheld, 0, 2) == ids{255, 255});
  CHECK(withheld->load_mask(0).ids.size() == 256);
}

TEST_CASE("cityscapes: label ids to train ids") {
  test::temporary_folder t;
  std::vector<int> labels;
  for (const int l : cityscapes_label_ids) labels.push_back(l);
  labels.insert(labels.end(), {0, 9, 30, 255});
  for (const std::string part : {"train", "val"}) {
    const std::string stem = "aachen/aachen_000001_000019";
    test::put_picture(t.path / "leftImg8bit" / part / (stem + "_leftImg8bit.png"), 16, 16);
    test::put_grey(t.path / "gtFine" / part / (stem + "_gtFine_labelIds.png"), 16, 16, labels);
    test::put_grey(t.path / "gtFine" / part / (stem + "_gtFine_instanceIds.png"), 16, 16, {7});
  }
  test::put_picture(t.path / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png", 16, 16);
  test::put_picture(t.path / "leftImg8bit/train_extra/x/x_000000_000019_leftImg8bit.png", 16, 16);
  test::put_grey(t.path / "gtCoarse/train_extra/x/x_000000_000019_gtCoarse_labelIds.png", 16, 16, {33});
  const auto set = opened("cityscapes", t, "train");
  REQUIRE(set->size() == 1);
  CHECK(set->classes().count() == 19);
  CHECK(set->classes().palette.size() == 19);
  ids expected = counting(19);
  expected.insert(expected.end(), {255, 255, 255, 255});
  CHECK(first(*set, 0, 23) == expected);
  CHECK(opened("cityscapes", t, "val")->size() == 1);
  CHECK(first(*opened("cityscapes", t, "test"), 0, 1) == ids{255});
  CHECK(first(*opened("cityscapes", t, "train_extra"), 0, 1) == ids{18});
}

TEST_CASE("camvid: lists of either form, 11 is ignored") {
  test::temporary_folder t;
  std::vector<int> values;
  for (int i = 0; i < 12; ++i) values.push_back(i);
  for (const std::string part : {"train", "val", "test"})
    for (const std::string name : {"0001TP_1", "0001TP_2"}) {
      test::put_picture(t.path / part / (name + ".png"), 16, 16);
      test::put_grey(t.path / (part + "annot") / (name + ".png"), 16, 16, values);
    }
  test::put(t.file("train.txt"), std::string("/SegNet/CamVid/train/0001TP_2.png /SegNet/CamVid/trainannot/0001TP_2.png\n"));
  test::put(t.file("val.txt"), std::string("0001TP_1\n0001TP_2\n"));
  ids expected = counting(11);
  expected.push_back(255);
  const auto train = opened("camvid", t, "train");
  CHECK(train->size() == 1);
  CHECK(train->name(0) == "0001TP_2");
  CHECK(first(*train, 0, 12) == expected);
  CHECK(opened("camvid", t, "val")->size() == 2);
  CHECK(opened("camvid", t, "test")->size() == 2);
  test::put(t.file("test.txt"), std::string("0001TP_9\n"));
  CHECK(has(message_of<input_error>([&] { opened("camvid", t, "test"); }), "0001TP_9"));
}

TEST_CASE("coco_stuff: 171 classes in ascending order of 182 labels") {
  test::temporary_folder t;
  std::vector<int> used;
  for (int label = 1; label <= 182; ++label)
    if (std::find(coco_stuff_unused.begin(), coco_stuff_unused.end(), label) == coco_stuff_unused.end()) used.push_back(label - 1);
  used.push_back(255);
  test::put_picture(t.path / "dataset/images/train2017/000000000009.jpg", 16, 16);
  test::put_grey(t.path / "dataset/annotations/train2017/000000000009.png", 16, 16, used);
  test::put_picture(t.path / "dataset/images/val2017/000000000010.jpg", 16, 16);
  test::put_grey(t.path / "dataset/annotations/val2017/000000000010.png", 16, 16, {11});  // "street sign", which never occurs
  const auto set = opened("coco_stuff", t, "train");
  CHECK(set->classes().count() == 171);
  CHECK(set->classes().names[0] == "person");
  CHECK(set->classes().names[170] == "wood");
  CHECK(set->classes().names[80] == "banner");  // first of the stuff: label 92
  ids expected = counting(171);
  expected.push_back(255);
  CHECK(first(*set, 0, 172) == expected);
  CHECK_THROWS_AS(opened("coco_stuff", t, "val")->load(0), input_error);
}

TEST_CASE("voc2012: indices, or the same masks as colours") {
  test::temporary_folder t;
  std::vector<int> values;
  for (int i = 0; i < 21; ++i) values.push_back(i);
  values.push_back(255);
  const auto root = t.path / "VOCdevkit/VOC2012";
  test::put_picture(root / "JPEGImages/2007_000032.jpg", 16, 16);
  test::put_grey(root / "SegmentationClass/2007_000032.png", 16, 16, values);
  std::filesystem::create_directories(root / "ImageSets/Segmentation");
  test::put((root / "ImageSets/Segmentation/train.txt").string(), std::string("2007_000032\n"));
  ids expected = counting(21);
  expected.push_back(255);
  CHECK(first(*opened("voc2012", t, "train"), 0, 22) == expected);
  std::vector<colour> colours;
  for (const int v : values) colours.push_back(voc_colour(v));
  test::put_colours(root / "SegmentationClass/2007_000032.png", 16, 16, colours);
  CHECK(first(*opened("voc2012", t, "train+colours"), 0, 22) == expected);
  CHECK_THROWS_AS(opened("voc2012", t, "train")->load(0), input_error);  // colours are no ids
  CHECK(has(message_of<input_error>([&] { opened("voc2012", t, "val"); }), "val.txt"));
  CHECK_THROWS_AS(opened("voc2012", t, "train+gray"), usage_error);
}

TEST_CASE("vaihingen and potsdam: parts, variants, eroded masks" * doctest::skip(!io::has_gdal())) {
  test::temporary_folder v;
  auto colours = isprs_classes().palette;
  auto eroded = colours;
  eroded.push_back({0, 0, 0});
  eroded.push_back({255, 255, 255});
  colours.push_back({7, 7, 7});  // outside the palette: ignored
  for (const std::string area : {"1", "5", "2", "38"}) {
    test::put_tif(v.path / ("top/top_mosaic_09cm_area" + area + ".tif"), test::coloured(16, 16, {{1, 2, 3}}));
    test::put_tif(v.path / ("gts_for_participants/top_mosaic_09cm_area" + area + ".tif"), test::coloured(16, 16, colours));
    test::put_tif(v.path / ("gts_eroded_for_participants/top_mosaic_09cm_area" + area + "_noBoundary.tif"), test::coloured(16, 16, eroded));
  }
  const auto train = opened("vaihingen", v, "train");
  CHECK(train->size() == 2);
  CHECK(opened("vaihingen", v, "fit")->size() == 1);
  CHECK(opened("vaihingen", v, "val")->name(0) == "5");
  CHECK(opened("vaihingen", v, "test")->size() == 2);
  ids expected = counting(6);
  expected.push_back(255);
  CHECK(first(*train, 0, 7) == expected);
  expected.push_back(0);
  CHECK(first(*opened("vaihingen", v, "all+eroded"), 0, 8) == expected);
  CHECK(has(message_of<usage_error>([&] { opened("vaihingen", v, "all+irrg"); }), "+eroded"));

  test::temporary_folder p;
  for (const std::string tile : {"2_10", "6_7", "7_13", "4_15", "2_13"}) {
    test::put_tif(p.path / ("2_Ortho_RGB/top_potsdam_" + tile + "_RGB.tif"), test::coloured(16, 16, {{1, 2, 3}}));
    test::put_tif(p.path / ("3_Ortho_IRRG/top_potsdam_" + tile + "_IRRG.tif"), test::coloured(16, 16, {{3, 2, 1}}));
    test::put_tif(p.path / ("5_Labels_for_participants/top_potsdam_" + tile + "_label.tif"), test::coloured(16, 16, colours));
    test::put_tif(p.path / ("5_Labels_for_participants_no_Boundary/top_potsdam_" + tile + "_label_noBoundary.tif"), test::coloured(16, 16, eroded));
  }
  CHECK(opened("potsdam", p, "train")->size() == 2);
  CHECK(opened("potsdam", p, "test")->size() == 3);
  CHECK(std::get<0>(opened("potsdam", p, "train+irrg")->load(0)->image.values)[0] == 3);
  CHECK(first(*opened("potsdam", p, "test+eroded"), 0, 8) == expected);
}

TEST_CASE("potsdam and vaihingen: the benchmark's part sizes" * doctest::skip(!io::has_gdal())) {
  test::temporary_folder t;
  const auto tile = test::coloured(2, 2, {{255, 255, 255}});
  std::vector<std::string> names;
  for (int row = 2; row <= 7; ++row)
    for (int column = row < 6 ? 10 : 7; column <= (row >= 4 && row <= 6 ? 15 : row == 7 ? 13 : 14); ++column)
      names.push_back(std::to_string(row) + "_" + std::to_string(column));
  REQUIRE(names.size() == 38);
  for (const auto& n : names) {
    test::put_tif(t.path / ("2_Ortho_RGB/top_potsdam_" + n + "_RGB.tif"), tile);
    test::put_tif(t.path / ("5_Labels_for_participants/top_potsdam_" + n + "_label.tif"), tile);
  }
  CHECK(opened("potsdam", t, "train")->size() == 24);
  CHECK(opened("potsdam", t, "test")->size() == 14);
  CHECK(opened("potsdam", t, "all")->size() == 38);
}

TEST_CASE("dataset check reports everything at once") {
  test::temporary_folder t;
  const auto pair = [&](const std::string& name, std::vector<int> values, int mask_width = 4) {
    test::put_picture(t.path / "images" / (name + ".png"), 4, 4);
    test::put_grey(t.path / "masks" / (name + ".png"), mask_width, 4, values);
  };
  pair("good", {0, 0, 1, 255, 1});
  pair("size", {0}, 5);
  pair("range", {0, 9, 0});
  pair("cut", {0});
  const auto whole = test::get((t.path / "images/cut.png").string());
  test::put((t.path / "images/cut.png").string(), std::vector<std::uint8_t>(whole.begin(), whole.begin() + std::ptrdiff_t(whole.size() / 2)));
  test::put_picture(t.path / "images/alone.png", 4, 4);
  test::put_grey(t.path / "masks/widow.png", 4, 4, {0});
  test::put(t.file("classes.json"), std::string(R"({"names":["land","sea"]})"));
  const check_report r = check_dataset(t.path.string());
  CHECK_FALSE(r.ok());
  CHECK(r.pairs == 4);
  CHECK(r.good == 1);
  CHECK(r.counts.pixels == std::vector<std::uint64_t>{2, 13});
  CHECK(r.counts.ignored == 1);
  REQUIRE(r.problems.size() == 5);
  const std::string text = check_text(r);
  for (const char* part : {"alone.png: image without mask", "widow.png: mask without image", "5x4", "id 9", "cut.png", "sea"}) {
    CAPTURE(part);
    CHECK(has(text, part));
  }
  const auto j = nlohmann::json::parse(check_json(r));
  CHECK(j["ok"] == false);
  CHECK(j["classes"][1]["pixels"] == 13);
  CHECK(j["problems"].size() == 5);
  for (const char* name : {"size", "range", "cut", "alone"}) std::filesystem::remove(t.path / "images" / (std::string(name) + ".png"));
  for (const char* name : {"size", "range", "cut", "widow"}) std::filesystem::remove(t.path / "masks" / (std::string(name) + ".png"));
  CHECK(check_dataset(t.path.string()).ok());
  test::put(t.file("list.txt"), std::string("images/good.png masks/good.png\nimages/good.png masks/good.png\n"));
  CHECK(has(check_text(check_dataset(t.file("list.txt"))), "listed twice"));
}

#if defined(RSSEG_WITH_GDAL)
TEST_CASE("the Blue Marble set: shorelines become ids on the picture's grid") {
  test::temporary_folder t;
  test::put_picture(t.path / "earth.png", 72, 36);  // 5 degrees a pixel
  const auto polygon = [](const std::string& ring) {
    return R"({"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":{"type":"Polygon","coordinates":[[)" + ring +
           "]]}}]}";
  };
  test::put(t.file("land.geojson"), polygon("[-100,0],[-40,0],[-40,40],[-100,40],[-100,0]"));
  test::put(t.file("lakes.geojson"), polygon("[-80,10],[-60,10],[-60,20],[-80,20],[-80,10]"));
  blue_marble from;
  from.image = t.file("earth.png"), from.land = t.file("land.geojson"), from.lakes = t.file("lakes.geojson");
  prepare_blue_marble(from, t.path / "out");
  const auto train = open_dataset((t.path / "out/train.txt").string()), val = open_dataset((t.path / "out/val.txt").string());
  const auto test_set = open_dataset((t.path / "out/test.txt").string());
  CHECK(train->classes().names == std::vector<std::string>{"land", "ocean", "lake"});
  REQUIRE(train->size() == 2);
  CHECK(train->load(0)->image.width + val->load(0)->image.width + train->load(1)->image.width == 36);
  CHECK(test_set->load(0)->image.width == 36);
  const mask whole = decode_mask(read_mask_pixels(t.path / "out/earth_mask.tif", mask_coding::kind::ids), mask_coding::plain_ids(3, 255),
                                 train->classes(), "earth_mask.tif");
  CHECK(whole.width == 72);
  const auto at = [&](double longitude, double latitude) { return int(whole.at(int((90 - latitude) / 5), int((longitude + 180) / 5))); };
  CHECK(at(-97.5, 2.5) == 0);
  CHECK(at(-70, 15) == 2);
  CHECK(at(-150, 15) == 1);
  CHECK(at(-150, 77.5) == 255);
  CHECK(at(-150, -62.5) == 255);
  CHECK(at(-150, 72.5) == 1);
  CHECK(std::get<0>(train->load(0)->image.values)[(3 * 9 + 5) * 3] == 3 + 5);
  const auto counts = count_classes(*train);
  CHECK(counts.pixels[0] == 12 * 8 - 4 * 2);
  CHECK(counts.pixels[2] == 4 * 2);
  CHECK(count_classes(*test_set).pixels[0] == 0);
  const auto info = io::probe_raster((t.path / "out/east_mask.tif").string());
  REQUIRE(info.geotransform);
  CHECK((*info.geotransform)[0] == 0.0);
  CHECK((*info.geotransform)[5] == -5.0);
  CHECK(has(info.projection, "4326"));
  from.land = t.file("none.shp");
  CHECK(has(message_of<input_error>([&] { prepare_blue_marble(from, t.path / "out2"); }), "python-cartopy-data"));
}
#endif

TEST_SUITE_END();
