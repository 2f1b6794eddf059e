// SPDX-License-Identifier: MIT
// librsseg: weights, engine, model and optimisers, float and double.  The headers declare these instantiations extern.
#include "rsseg/model/model.hpp"
#include "rsseg/train/optimizer.hpp"

namespace rsseg {
template class parameter_store<float>;
template class parameter_store<double>;
template class cpu::engine<float>;
template class cpu::engine<double>;
template class basic_model<float>;
template class basic_model<double>;
template class train::optimizer<float>;
template class train::optimizer<double>;
}  // namespace rsseg
