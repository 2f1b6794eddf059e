// SPDX-License-Identifier: MIT
// The four pyramids, MCNN, FusionNet, Classification with an edge, SMAF-Net, multi-scale skips, ScasNet, HCANet, FuseNet, MFALNet, SGA-Net:
// facts at compile time, losses, shared weights.
#include <doctest/doctest.h>

#include "nets_facts.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/classification_with_an_edge.hpp"
#include "rsseg/nets/fusenet.hpp"
#include "rsseg/nets/fusionnet.hpp"
#include "rsseg/nets/hcanet.hpp"
#include "rsseg/nets/mcnn.hpp"
#include "rsseg/nets/mfal_net.hpp"
#include "rsseg/nets/multiscale_skip.hpp"
#include "rsseg/nets/pyramids.hpp"
#include "rsseg/nets/scasnet.hpp"
#include "rsseg/nets/sga_net.hpp"
#include "rsseg/nets/smaf_net.hpp"

using namespace rsseg;

namespace {
static_assert(parameter_count<FeaturizedImagePyramid<6>> == 1'177'766 && parameter_count<SingleFeatureMap<6>> == 2'358'438);
static_assert(parameter_count<FeatureHierarchy<6>> == 2'382'648 && parameter_count<TopDownPyramid<6>> == 4'900'006);
static_assert(parameter_count<WithBands<4, MCNN<6>>> == 188'804);
static_assert(parameter_count<SMAFNet<6, 32>> == 9'410'151);
static_assert(parameter_count<WithBands<4, MultiScaleSkip<6, 32, 32>>> == 6'745'542);
static_assert(parameter_count<ScasNet<6>> == 39'589'318);
static_assert(parameter_count<HCANet<6, 1, 1, 1, 1, 16>> == 1'506'774);
static_assert(parameter_count<FuseNet<6>> == 44'168'454);
static_assert(parameter_count<MFALNet<6>> == 537'366);
static_assert(parameter_count<SGANet<6, 6>> == 8'743'141);
static_assert(parameter_count<ClassificationWithAnEdge<5, 1, 16>> == 5'543'658);

static_assert(output_of<FeaturizedImagePyramid<6>>(shape{1, 3, 67, 96}) == shape{1, 6, 67, 96});
static_assert(output_of<FusionNet<3, 16>>(shape{1, 3, 65, 50}) == shape{1, 3, 65, 50});
static_assert(output_of<ScasNet<6>>(shape{1, 3, 400, 401}) == shape{1, 6, 400, 401});
static_assert(output_of<HCANet<6>>(shape{1, 3, 512, 333}) == shape{1, 6, 512, 333});
static_assert(output_of<MFALNet<6>>(shape{1, 3, 61, 64}) == shape{1, 6, 61, 64});
static_assert(output_of<SGANet<6, 16>>(shape{1, 3, 256, 257}) == shape{1, 6, 256, 257});
static_assert(output_of<FuseNet<6>>(shape{1, 3, 33, 64}, shape{1, 1, 33, 64}) == shape{1, 6, 33, 64});
static_assert(output_of<MCNN<6>>(shape{4, 3, 28, 28}, shape{4, 3, 28, 28}, shape{4, 3, 28, 28}) == shape{4, 6, 1, 1});
static_assert(output_of<ClassificationWithAnEdge<5, 1, 16>>(shape{1, 3, 64, 80}, shape{1, 2, 64, 80}) == shape{1, 5, 64, 80});
static_assert(output_of<ClassificationWithAnEdge<5, 3, 16>>(shape{1, 3, 128, 256}, shape{1, 2, 128, 256}) == shape{1, 5, 128, 256});
static_assert(!test::accepts<ClassificationWithAnEdge<5, 1, 16>>(shape{1, 3, 65, 64}, shape{1, 2, 65, 64}), "side maps would not meet");
static_assert(!test::accepts<FuseNet<6>>(shape{1, 3, 64, 64}, shape{1, 1, 64, 32}), "height of another extent");
static_assert(!test::accepts<SMAFNet<6, 32>>(shape{1, 3, 66, 64}, shape{1, 6, 66, 64}));

template <class Net>
graph::graph lowered(bool training, int classes = 6) {
  builder b(build_options{.classes = classes, .training = training});
  Net::build(b);
  CHECK_FALSE(b.failed());
  return std::move(b.g);
}
bool has_gradient(const graph::graph& g, std::string_view name) {
  const int id = g.find(name);
  REQUIRE(id >= 0);
  for (int i = 0; i + 1 < g.gradients.size(); i += 2)
    if (g.gradients[i] == id) return true;
  return false;
}
}  // namespace

TEST_SUITE("nets") {
  TEST_CASE("edge networks: sides learn boundaries, the regulariser is a penalty") {
    const graph::graph g = lowered<FusionNet<from_data, 16>>(true);
    REQUIRE(g.outputs.size() == 7);
    for (int i = 1; i < 7; ++i) {
      CHECK(g.outputs[i].labels == label_rule::boundaries);
      CHECK(g.outputs[i].loss_weight == 1);
    }
    REQUIRE(g.penalties.size() == 1);
    CHECK(g.penalties[0].weight == 0.5);
    graph::graph inference = lowered<FusionNet<from_data, 16>>(false);
    graph::prune(inference, false);
    CHECK(inference.outputs.size() == 2);
    CHECK(inference.penalties.empty());
    graph::graph step = lowered<ClassificationWithAnEdge<from_data, 1, 16>>(true, 5);
    graph::make_training_graph(step);
    CHECK(has_gradient(step, "upc.4.weight"));
    int binary = 0;
    for (const auto& n : step.nodes) binary += n.kind == graph::op::loss && graph::loss_kind(n.at.mode) == graph::loss_kind::squared_error;
    CHECK(binary == 6);
  }
  TEST_CASE("boundaries of labels are three pixels wide and leave ignored pixels alone") {
    tensor<std::int32_t> labels(shape{1, 1, 4, 8});
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 8; ++x) labels(0, 0, y, x) = x < 4 ? 2 : 5;
    labels(0, 0, 0, 3) = 255;
    labels(0, 0, 3, 7) = 255;
    const auto b = boundaries_of(labels, 255);
    const int rows[4][8] = {{0, 0, 1, 255, 1, 0, 0, 0}, {0, 0, 1, 1, 1, 0, 0, 0}, {0, 0, 1, 1, 1, 0, 0, 0}, {0, 0, 1, 1, 1, 0, 0, 255}};
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 8; ++x) CHECK(b(0, 0, y, x) == rows[y][x]);
  }
  TEST_CASE("blurred boundaries: numbers from 0 to 1 around the line, ignored pixels apart") {
    tensor<std::int32_t> labels(shape{1, 1, 6, 9});
    for (int y = 0; y < 6; ++y)
      for (int x = 0; x < 9; ++x) labels(0, 0, y, x) = x < 4 ? 0 : 1;
    labels(0, 0, 0, 0) = 255;
    const auto soft = soft_boundaries_of(labels, 255);
    CHECK(soft(0, 0, 0, 0) == graph::soft_ignored);
    const double row[9] = {0, 1. / 16, 5. / 16, 11. / 16, 14. / 16, 11. / 16, 5. / 16, 1. / 16, 0};  // the line is at 2, 3, 4 and peaks at 3
    for (int x = 0; x < 8; ++x) CHECK(soft(0, 0, 4, x) == int(row[x + 1] * graph::soft_one));
  }
  TEST_CASE("edge outputs learn as declared, or as the options say") {
    const auto count = [](auto build, graph::edge_loss edges, graph::loss_kind kind) {
      build_options o;
      o.classes = 5, o.training = true;
      builder b(o);
      build(b);
      graph::loss_options l;
      l.edges = edges;
      graph::make_training_graph(b.g, l);
      int n = 0;
      for (const auto& node : b.g.nodes) n += node.kind == graph::op::loss && graph::loss_kind(node.at.mode) == kind;
      return n;
    };
    using graph::edge_loss, graph::loss_kind;
    const auto fusion = &FusionNet<from_data, 8>::build;
    const auto edge = &ClassificationWithAnEdge<from_data, 1, 8>::build;
    CHECK(count(fusion, edge_loss::as_declared, loss_kind::balanced_binary) == 6);
    CHECK(count(fusion, edge_loss::plain, loss_kind::binary_cross_entropy) == 6);
    CHECK(count(edge, edge_loss::as_declared, loss_kind::squared_error) == 6);
    CHECK(count(edge, edge_loss::balanced, loss_kind::balanced_binary) == 6);
  }
  TEST_CASE("a training step refuses a label that is no class and says where it is") {
    basic_model<float> m(&SingleFeatureMap<from_data>::build, {.classes = 3, .bands = 3});
    m.weights().initialise(1);
    m.prepare_training(graph::loss_options{});
    tensor<std::int32_t> labels(shape{2, 1, 32, 32}, 1);
    labels(1, 0, 2, 5) = 7;
    try {
      m.train_step(tensor<float>(shape{2, 3, 32, 32}), labels, {});
      CHECK(false);
    } catch (const usage_error& e) {
      for (const char* word : {"sample 1", "id 7", "x=5 y=2", "0 to 2"})
        CHECK_MESSAGE(std::string(e.what()).find(word) != std::string::npos, e.what());
    }
  }
  TEST_CASE("SMAF-Net: the discriminator is fixed in stage 2 and learns in stage 1") {
    graph::graph second = lowered<SMAFNet<from_data, 8>>(true);
    graph::make_training_graph(second);
    CHECK_FALSE(has_gradient(second, "disc.1.0.weight"));
    CHECK(has_gradient(second, "adapt.1.weight"));
    graph::graph step = lowered<SMAFDiscriminator<from_data, 8>>(true);
    graph::make_training_graph(step);
    CHECK(has_gradient(step, "disc.1.0.weight"));
    graph::graph generator = lowered<SMAFGenerator<from_data, 8>>(true);
    REQUIRE(generator.penalties.size() == 1);
    CHECK(generator.penalties[0].weight == 0.01);
    // One set of names: what stage 1 trains, the network of both stages loads.
    const graph::graph both = lowered<SMAFSegmenter<from_data, 8>>(true);
    for (const char* name : {"disc.3.1.weight", "disc_head.weight"}) CHECK_MESSAGE((step.find(name) >= 0 && generator.find(name) >= 0), name);
    CHECK(both.find("generator.dec.0.1.0.weight") >= 0);
    CHECK(both.find("disc.3.1.weight") >= 0);
  }
  TEST_CASE("MCNN: the classifier trains on frozen features, the patch network by itself") {
    graph::graph g = lowered<MCNN<>>(true);
    graph::make_training_graph(g);
    CHECK(has_gradient(g, "lr.weight"));
    CHECK_FALSE(has_gradient(g, "c1.weight"));
    graph::graph patches = lowered<MCNNFeatures<>>(true);
    graph::make_training_graph(patches);
    CHECK(has_gradient(patches, "c1.weight"));
  }
  TEST_CASE("SGA-Net: four draws of noise in training, each of its own, none in inference; one regulariser") {
    const graph::graph g = lowered<SGANet<from_data, 6>>(true), inference = lowered<SGANet<from_data, 6>>(false);
    graph::list<int> draws;
    for (int i = 0; i < g.nodes.size(); ++i)
      if (g.nodes[i].kind == graph::op::noise) draws.push_back(i);
    REQUIRE(draws.size() == 4);
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < i; ++j) CHECK(g.name_of(draws[i]) != g.name_of(draws[j]));
    for (const auto& n : inference.nodes) CHECK(n.kind != graph::op::noise);
    CHECK(g.penalties.size() == 1);
  }
  TEST_CASE("the image pyramid runs one trunk three times") {
    const graph::graph g = lowered<FeaturizedImagePyramid<>>(true);
    int updates = 0;
    for (const auto& n : g.nodes) updates += n.kind == graph::op::bn_update;
    CHECK(updates == 3 * 7);
  }
}
