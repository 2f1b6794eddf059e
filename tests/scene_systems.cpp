// SPDX-License-Identifier: MIT
// Systems of several networks over scenes: windows correspond exactly, views and grids cover everything, stages resume, and what is missing
// or too small says so or works.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <tuple>

#include "data_helpers.hpp"
#include "rsseg/scene/systems.hpp"
#include "scene_helpers.hpp"

using namespace rsseg;
using test::info_of, test::scene_of;

namespace {
using Small = BranchSize<18, 4, 8>;

std::shared_ptr<scene::glnet_networks> small_glnet(int patch) {
  auto n = std::make_shared<scene::glnet_networks>();
  n->parts = glnet_parts_of<Small>, n->options.classes = 3, n->options.bands = 3, n->patch = patch, n->overlap = 0;
  n->make(3);
  n->global->weights().initialise(1), n->local->weights().initialise(2), n->both->weights().initialise(3);
  return n;
}
}  // namespace

TEST_SUITE("scene") {
  TEST_CASE("GLNet patch by patch is GLNet in one graph") {
    build_options o;
    o.classes = 3, o.bands = 3;
    basic_model<float> whole(&GLNetBoth<from_data, Windows<2>, true, Small>::build, o);
    whole.weights().initialise(5);
    auto n = small_glnet(64);
    CHECK(scene::copy_weights(whole.weights(), n->global->weights(), "fixed.", "") == int(n->global->weights().entries().size()));
    CHECK(scene::copy_weights(whole.weights(), n->both->weights(), "", "") == int(n->both->weights().entries().size()));
    CHECK(scene::copy_weights(whole.weights(), n->local->weights(), "", "") == int(n->local->weights().entries().size()));

    const auto source = scene_of(128, 128);
    const auto norm = data::normalization::imagenet();
    const scene::window all{0, 0, 128, 128};
    const tensor<float> image = scene::resized_view(*source, all, 64, 64, norm);
    std::vector<scene::window> windows;
    for (const int y : {0, 64})
      for (const int x : {0, 64}) windows.push_back({x, y, 64, 64});
    const tensor<float> patches = scene::read_windows(*source, windows, norm);
    const tensor<float>* inputs[] = {&image, &patches};
    whole.run(inputs);
    const tensor<float> expected = whole.output("ensemble"), global = whole.output("global"), local = whole.output("local");

    scene::glnet_predictor both(n, norm, scene::glnet_mode::both, 0), first(n, norm, scene::glnet_mode::local, 0);
    both.start(*source), first.start(*source);
    const tensor<float> scores = both.scores(*source, windows), of_local = first.scores(*source, windows);
    REQUIRE(scores.extent() == expected.extent());
    double largest = 0, error = 0, error_local = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      largest = std::max(largest, double(std::abs(expected.data()[i])));
      error = std::max(error, double(std::abs(scores.data()[i] - expected.data()[i])));
      error_local = std::max(error_local, double(std::abs(of_local.data()[i] - local.data()[i])));
    }
    CHECK(largest > 0);
    CHECK(error <= 2e-4 * largest);
    CHECK(error_local <= 2e-4 * largest);
    // a view that is the scene says the same, averaged on the quarter grid
    scene::glnet_predictor view(n, norm, scene::glnet_mode::both, 128);
    view.start(*source);
    const tensor<float> of_view = view.scores(*source, {&all, 1});
    CHECK(of_view.extent() == shape{1, 3, 32, 32});
    double apart = 0;
    for (int y = 0; y < 32; ++y)
      for (int x = 0; x < 32; ++x)
        for (int k = 0; k < 3; ++k) apart = std::max(apart, double(std::abs(of_view(0, k, y, x) - scores(y / 16 * 2 + x / 16, k, y % 16, x % 16))));
    CHECK(apart <= 1e-5 * largest);
  }

  TEST_CASE("patches of a grid reach both ends, overlap as asked, and are kept once") {
    for (int length = 1; length < 300; length += 7)
      for (const int overlap : {0, 5, 16}) {
        const auto starts = scene::even_starts(length, 48, overlap, 4);
        CHECK(starts.front() == 0);
        for (std::size_t i = 1; i < starts.size(); ++i) {
          CHECK(starts[i] > starts[i - 1]);
          CHECK(starts[i - 1] + 48 - starts[i] >= overlap - 4);
        }
        if (length > 48) CHECK(starts.back() == length - 48);
        int at = 0;
        for (const auto& s : scene::even_cut(length, 48, overlap)) {
          CHECK(s.keep_begin == at);
          at = s.keep_end;
        }
        CHECK(at == length);
      }
    CHECK(scene::even_starts(2448, 508, 50) == std::vector<int>{0, 388, 776, 1164, 1552, 1940});
    CHECK_THROWS_AS(scene::even_starts(100, 48, 48), usage_error);
  }

  TEST_CASE("areas are averaged, in memory and from a scene alike") {
    const auto source = scene_of(90, 70);
    const auto norm = data::normalization::parse("unit");
    const scene::window all{0, 0, 90, 70};
    const tensor<float> small = scene::resized_view(*source, all, 7, 9, norm);
    const tensor<float> full = scene::read_windows(*source, {&all, 1}, norm);
    double mean = 0;
    for (int y = 0; y < 10; ++y)
      for (int x = 0; x < 10; ++x) mean += full(0, 1, 20 + y, 30 + x) / 100;
    CHECK(small(0, 1, 2, 3) == doctest::Approx(mean).epsilon(1e-5));
    const tensor<float> again = scene::resized(full, 7, 9);
    for (std::size_t i = 0; i < small.size(); ++i) CHECK(small.data()[i] == again.data()[i]);
  }

  TEST_CASE("scenes smaller than a patch, of one pixel, and of odd sides are mapped by every mode") {
    auto n = small_glnet(64);
    for (const auto& [w, h] : {std::pair<int, int>{1, 1}, {20, 150}, {133, 90}})
      for (const auto mode : {scene::glnet_mode::global, scene::glnet_mode::g2l, scene::glnet_mode::l2g, scene::glnet_mode::both})
        for (const int view : {0, 96}) {
          const auto source = scene_of(w, h);
          auto info = info_of(w, h);
          info.bands = 1;
          io::memory_raster sink(info);
          scene::glnet_predictor p(n, data::normalization::imagenet(), mode, view);
          scene::segment(p, *source, sink, scene::view_tiling(64, 8, view, -1, data::normalization::imagenet()));
          CHECK(*std::max_element(sink.values().begin(), sink.values().end()) < 3);
        }
  }
}

TEST_SUITE("scene") {
  TEST_CASE("MagNet's levels: any number of scales, patches, modes, odd scenes") {
    CHECK(scene::magnet_scales(508, 2448) == std::vector<int>{508, 1016, 2032, 2448});
    CHECK(scene::magnet_scales(64, 64) == std::vector<int>{64});
    build_options b;
    b.classes = 3, b.bands = 3;
    auto n = std::make_shared<scene::magnet_networks>();
    n->segmenter = std::make_unique<scene::placed_network>(&MagNetBackbone<from_data, Small>::build, b);
    n->refinement = std::make_unique<scene::placed_network>(&MagNetRefinement<from_data, 4>::build, b);
    n->patch = 48, n->classes = 3;
    n->segmenter->weights().initialise(1), n->refinement->weights().initialise(2);
    const auto norm = data::normalization::imagenet();
    for (const auto& [w, h] : {std::pair<int, int>{1, 1}, {30, 120}, {131, 77}})
      for (const auto mode : {scene::magnet_mode::magnet, scene::magnet_mode::fast, scene::magnet_mode::coarse, scene::magnet_mode::patches}) {
        const auto source = scene_of(w, h);
        auto info = info_of(w, h);
        info.bands = 1;
        io::memory_raster sink(info);
        scene::magnet_predictor p(n, norm, mode);
        scene::segment(p, *source, sink, scene::view_tiling(48, 8, mode == scene::magnet_mode::patches ? 0 : 120, -1, norm));
        CHECK(*std::max_element(sink.values().begin(), sink.values().end()) < 3);
      }
    // coarse is the segmenter on the down-sampled view
    const auto source = scene_of(96, 96);
    const scene::window all{0, 0, 96, 96};
    scene::magnet_predictor coarse(n, norm, scene::magnet_mode::coarse);
    const tensor<float> p = coarse.scores(*source, {&all, 1}), logits = n->segmenter->infer(scene::resized_view(*source, all, 48, 48, norm));
    for (int i = 0; i < 48 * 48; ++i) {
      const float *a = p.data() + 3 * i, *l = logits.data() + 3 * i;
      const double sum = std::exp(double(l[0])) + std::exp(double(l[1])) + std::exp(double(l[2]));
      for (int k = 0; k < 3; ++k) CHECK(std::exp(a[k]) == doctest::Approx(std::exp(double(l[k])) / sum).epsilon(1e-3));
    }
  }

  TEST_CASE("contexts are centred on the patch and mirrored outside of the scene") {
    const auto source = scene_of(60, 44);
    const auto norm = data::normalization::parse("unit");
    struct centres {
      static void build(builder& b) {
        const value a = b.input("a", 3), c = b.input("b", 3);
        b.output("logits", add(b, a, graph::ops::affine(b, c, 100, 0)), 1);
      }
    };
    build_options o;
    auto net = std::make_shared<scene::placed_network>(&centres::build, o);
    scene::context_predictor p(net, norm, {1, 2}, 16, 64);
    p.start(*source);
    const scene::window w{4, 8, 16, 16};
    const tensor<float> y = p.scores(*source, {&w, 1});
    const tensor<float> near = scene::read_windows(*source, {&w, 1}, norm), far = scene::resized_view(*source, {-4, 0, 32, 32}, 16, 16, norm);
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y.data()[i] == doctest::Approx(near.data()[i] + 100 * far.data()[i]).epsilon(1e-4));
  }

  TEST_CASE("objects of labels, proposals of maps, and the same objects found again") {
    std::vector<std::int32_t> labels(16 * 12, 0);
    for (int y = 2; y < 5; ++y)
      for (int x = 3; x < 9; ++x) labels[std::size_t(y * 16 + x)] = 1;
    labels[std::size_t(9 * 16 + 2)] = 2;  // too small
    std::vector<std::vector<int>> cells;
    const auto objects = scene::zoom_objects(labels, 12, 16, 255, &cells);
    REQUIRE(objects.size() == 1);
    CHECK(cells[0].size() == 18);
    std::vector<float> boxes(labels.size() * 4, 0.0f), confidence(labels.size() * 2, 0.0f);
    for (std::size_t i = 0; i < labels.size(); ++i) confidence[2 * i] = 5;
    for (const int i : cells[0]) {
      float* b = boxes.data() + 4 * i;
      b[0] = float(6 - i % 16 - 0.5), b[1] = float(3.5 - i / 16 - 0.5), b[2] = std::log(6.0f), b[3] = std::log(3.0f);
      confidence[std::size_t(2 * i)] = -5;
    }
    const auto found = scene::zoom_proposals(boxes.data(), confidence.data(), 12, 16, 8);
    REQUIRE(found.size() == 1);
    CHECK(found[0].x0 == doctest::Approx(24));
    CHECK(found[0].y0 == doctest::Approx(16));
    CHECK(found[0].x1 == doctest::Approx(72));
    CHECK(found[0].y1 == doctest::Approx(40));
  }

  TEST_CASE("a system whose stage is missing says which to train; wrong stages and modes are listed") {
    const scene::system* sys = scene::find_system("glnet-compact");
    REQUIRE(sys);
    CHECK(scene::find_system("unet-16") == nullptr);
    scene::system_settings s;
    s.info.classes = 3, s.info.bands = 3, s.info.normalize = "imagenet", s.info.network = sys->name, s.patch = 64, s.view = 128;
    for (const scene::system& each : scene::systems()) {
      CHECK(each.stages.size() >= 2);
      CHECK(scene::mode_named(each, "") == each.modes[0]);
    }
    bool thrown = false;
    try {
      sys->predictor(*sys, s, "no/such/folder", {});
    } catch (const input_error& e) {
      thrown = true;
      CHECK(std::string(e.what()).find("--stage global") != std::string::npos);
    }
    CHECK(thrown);
    CHECK_THROWS_AS(scene::stage_named(*sys, "first"), usage_error);
    CHECK_THROWS_AS(scene::mode_named(*sys, "best"), usage_error);
    CHECK_THROWS_AS(scene::read_settings("no/such/folder"), input_error);
  }

  TEST_CASE("every system trains a step of every stage and maps a scene in every mode") {
    const test::temporary_folder folder;
    for (const auto& [bound, patch, view] : {std::tuple<const char*, int, int>{"glnet-compact", 32, 64},
                                             {"magnet-compact", 32, 64},
                                             {"fctl-compact", 32, 96},
                                             {"awmf-compact", 16, 64},
                                             {"hazn-compact", 64, 128},
                                             {"takahama", 8, 64}}) {
      const char* const name = bound;  // clang 14 captures no structured binding
      CAPTURE(name);
      const scene::system* sys = scene::find_system(name);
      REQUIRE(sys);
      scene::system_settings s;
      s.info.classes = 3, s.info.bands = 3, s.info.normalize = "imagenet", s.info.network = name, s.patch = patch, s.view = view;
      data::batch b;
      b.images = tensor<float>(shape{2, 3, view, view}), b.targets = tensor<std::int32_t>(shape{2, 1, view, view});
      random_stream r(5, 1);
      for (float& v : b.images) v = float(r.uniform(-1, 1));
      for (int n = 0; n < 2; ++n)
        for (int y = 0; y < view; ++y)
          for (int x = 0; x < view; ++x)
            b.targets(n, 0, y, x) = y < 4 ? 255 : x > view / 8 && x < view / 2 && y > view / 4 && y < view / 2 ? 1 : n * 2;
      const std::string to = folder.file(name);
      for (std::size_t stage = 0; stage < sys->stages.size(); ++stage) {
        CAPTURE(stage);
        const auto learner = sys->learner(*sys, int(stage), s, to, 1);
        train::train_options o;
        learner->prepare(o);
        const double loss = learner->step(b, nullptr, o, cpu::run_state{1, 0});
        CHECK(std::isfinite(loss));
        CHECK(loss > 0);
        double sum = 0;
        for (const float g : learner->gradients()) sum += std::abs(double(g));
        CHECK(std::isfinite(sum));
        CHECK(sum > 0);
        CHECK(learner->gradients().size() == learner->weights().values().size());
        std::filesystem::create_directories(to + "/" + sys->stages[stage].name);
        io::write_safetensors(scene::stage_weights(*sys, int(stage), to), train::weights_as_tensors(learner->weights()), {});
      }
      for (const std::string& mode : sys->modes) {
        CAPTURE(mode);
        scene::predictor_options o;
        o.mode = mode;
        const auto made = sys->predictor(*sys, s, to, o);
        const auto source = scene_of(70, 45);
        auto info = info_of(70, 45);
        info.bands = 1;
        io::memory_raster sink(info);
        scene::segment(*made.predictor, *source, sink, made.tiling);
        CHECK(*std::max_element(sink.values().begin(), sink.values().end()) < 3);
        CHECK(made.predictor->bytes() > 0);
      }
    }
  }
}
