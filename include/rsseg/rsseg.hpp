// SPDX-License-Identifier: MIT
// rsseg in one include: layers, graphs, models, training steps. Networks are included one by one (rsseg/nets/unet.hpp); files, data sets,
// scenes and reports have headers of their own (rsseg/io/io.hpp, rsseg/data/registry.hpp, rsseg/scene/segment.hpp, rsseg/train/trainer.hpp).
#pragma once
#include "rsseg/layers/network.hpp"
#include "rsseg/model/gradcheck.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/train/optimizer.hpp"
#include "rsseg/train/schedule.hpp"

#if RSSEG_EXTERN_KERNELS
namespace rsseg::train {
extern template class optimizer<float>;
extern template class optimizer<double>;
}  // namespace rsseg::train
#endif
