// SPDX-License-Identifier: MIT
// Every family of networks learns: a small member of each, with all the losses that it declares, learns two generated crops by heart until
// its training loss is below a fifth of the first one. What is measured on real crops and at full width is in docs/results.md.
#include <doctest/doctest.h>

#include "rsseg/nets/awmf_cnn.hpp"
#include "rsseg/nets/bisenet.hpp"
#include "rsseg/nets/classification_with_an_edge.hpp"
#include "rsseg/nets/deep_guided_filter.hpp"
#include "rsseg/nets/deeplab_v2.hpp"
#include "rsseg/nets/deeplab_v3plus.hpp"
#include "rsseg/nets/enet.hpp"
#include "rsseg/nets/fpn.hpp"
#include "rsseg/nets/fusenet.hpp"
#include "rsseg/nets/fusionnet.hpp"
#include "rsseg/nets/hazn.hpp"
#include "rsseg/nets/hcanet.hpp"
#include "rsseg/nets/hrnet.hpp"
#include "rsseg/nets/iss.hpp"
#include "rsseg/nets/magnet.hpp"
#include "rsseg/nets/mcnn.hpp"
#include "rsseg/nets/mfal_net.hpp"
#include "rsseg/nets/multiscale_skip.hpp"
#include "rsseg/nets/patch_then_segment.hpp"
#include "rsseg/nets/point_rend.hpp"
#include "rsseg/nets/pyramids.hpp"
#include "rsseg/nets/segnet.hpp"
#include "rsseg/nets/sga_net.hpp"
#include "rsseg/nets/smaf_net.hpp"
#include "rsseg/nets/unet.hpp"
#include "rsseg/train/overfit.hpp"

using namespace rsseg;

namespace {
train::overfit_result learn(const char* name, void (*build)(builder&), int side, const train::overfit_options& o = train::overfit_options(),
                            int crops = 2) {
  network_entry e{name, "", "", "", build};
  train::overfit_result r = train::overfit(e, train::generated_crops(side, crops), o);
  MESSAGE(std::string(name), ": ", r.first, " -> ", r.last, " in ", r.steps, " steps at ", r.rate, ", ", r.seconds, " s");
  CHECK_MESSAGE(r.reached, std::string(name), ": ", r.first, " -> ", r.last, " in ", r.steps_in_all, " steps");
  return r;
}
train::overfit_options at_rate(double rate) {
  train::overfit_options o;
  o.rates = {rate};
  return o;
}
}  // namespace

TEST_CASE("encoders and decoders learn two crops by heart") {
  learn("unet", &UNet<from_data, 8>::build, 32, at_rate(3e-3));
  learn("unet-bilinear", &UNetBilinear<from_data, 8>::build, 32, at_rate(3e-3));
  learn("unet-original", &UNetOriginal<from_data, 4>::build, 204, at_rate(3e-3), 1);
  learn("enet", &ENet<>::build, 32, at_rate(3e-3));
  learn("segnet", &SegNet<from_data, segnet_head::plain, 8>::build, 32, at_rate(3e-3));
  learn("multiscale-skip", &MultiScaleSkip<from_data, 4, 4>::build, 32, at_rate(3e-3));
  learn("smaf-net", &SMAFSegmenter<from_data, 4>::build, 32, at_rate(3e-3));
}

TEST_CASE("pyramids and contexts learn two crops by heart") {
  learn("pyramid-a", &FeaturizedImagePyramid<>::build, 64);
  learn("pyramid-b", &SingleFeatureMap<>::build, 128);  // stride 32
  learn("pyramid-c", &FeatureHierarchy<>::build, 32, at_rate(3e-3));
  learn("pyramid-d", &TopDownPyramid<from_data, 64>::build, 32);
  learn("fpn", &FPN<18>::build, 32);
  learn("bisenet", &BiSeNet<>::build, 64);
  learn("deeplabv2", &DeepLabV2<from_data, 1, 1, 1, 1>::build, 32);
  learn("deeplabv3plus", &DeepLabV3PlusSeparable<>::build, 33);
  learn("hrnet", &HRNetV2<from_data, 16, hrnet_size::small_v1>::build, 32, at_rate(3e-3));
  learn("hcanet", &HCANet<from_data, 1, 1, 1, 1, 16, 16>::build, 32, at_rate(3e-3));
  learn("hazn", &AutoZoomNet<from_data, true, 8, 32>::build, 32);
}

TEST_CASE("attention, edges and regularisers learn two crops by heart") {
  learn("mfalnet", &MFALNet<>::build, 32);
  learn("sga-net", &SGANet<from_data, 8>::build, 32, at_rate(1e-3), 1);
  learn("fusionnet", &FusionNet<from_data, 8>::build, 64, at_rate(3e-3), 1);
  learn("classification-with-an-edge", &ClassificationWithAnEdge<from_data, 1, 4>::build, 64, at_rate(3e-3), 1);
  learn("fusenet", &FuseNet<from_data, 8>::build, 32, at_rate(3e-3));
}

TEST_CASE("refiners learn from a coarse mask") {
  learn("iss", &ISSRefiner<>::build, 32, at_rate(3e-3));
  learn("magnet-refinement", &MagNetRefinement<>::build, 32);
  learn("dgf-image", &DeepGuidedFilter<>::build, 32, at_rate(3e-3));
  learn("dgf-head", &DGFHead<>::build, 32, at_rate(1e-2));
}

TEST_CASE("patches, fields of view and stages learn by heart") {
  learn("takahama-patches", &PatchClassifier<>::build, 32);
  learn("takahama-grid", &PatchGridNet<>::build, 32);
  learn("takahama-multistage", &PatchThenSegment<4>::build, 32);
  learn("awmf-cnn", &AWMFCNN<from_data, 4>::build, 32, at_rate(3e-3));
  const train::overfit_result first = learn("mcnn-features", &MCNNFeatures<>::build, 32);
  train::overfit_options second = at_rate(1e-2);
  second.prepare = [&](parameter_store<float>& to) {  // the paper freezes the patch network that stage 1 trained
    for (std::size_t k = 0; k < first.weights.entries().size(); ++k)
      if (const int at = to.find(first.weights.entries()[k].name); at >= 0)
        std::copy_n(first.weights.data(int(k)), first.weights.entries()[k].size, to.data(at));
    to.touch();
  };
  learn("mcnn-patches", &MCNN<>::build, 32, second);
}

namespace {
/// As GLNet's stages: one loss of four patches per image, one of the images.
struct whole_and_patches {
  static constexpr void build(builder& b) {
    const auto head = [&](std::string_view name, value x) {
      const scope s(b, name);
      return conv(b, "out", relu(b, conv(b, "in", x, 16, {.kernel = 3})), b.classes(from_data), {.kernel = 3});
    };
    const value image = b.input("image_global", from_data), patches = b.input("patches", from_data);
    b.output("ensemble", head("local", patches), 1);
    b.output("global", head("global", image), 1);
  }
};
}  // namespace
TEST_CASE("an image and its patches have batches and labels of their own") {
  learn("whole-and-patches", &whole_and_patches::build, 32, at_rate(1e-2));
}

TEST_CASE("crops that lack what an input needs are refused with its name") {
  train::crop_set flat = train::generated_crops(32, 1);
  flat.further = {};
  const network_entry e{"fusenet", "", "", "", &FuseNet<from_data, 8>::build};
  CHECK_THROWS_WITH_AS(train::overfit(e, flat, train::overfit_options()), doctest::Contains("input 'depth' needs a height-like band"), usage_error);
  train::crop_set grey = train::generated_crops(32, 1);
  const network_entry m{"magnet", "", "", "", [](builder& b) { b.output("logits", conv(b, "c", b.input("rgb", 4), 2), 1); }};
  CHECK_THROWS_WITH_AS(train::overfit(m, grey, train::overfit_options()), doctest::Contains("takes 4 bands, the images have 3"), usage_error);
}
