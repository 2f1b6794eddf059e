// SPDX-License-Identifier: MIT
// Weights in and out as safetensors under PyTorch names and in PyTorch's order (OIHW), with metadata that says what they belong to.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rsseg/io/safetensors.hpp"
#include "rsseg/plan/parameter_store.hpp"

namespace rsseg::train {

/// What a weights file says of itself, so that eval and segment need no repetition.
struct weights_info {
  std::string network;  ///< registered name; empty in public checkpoints
  int classes = 0, bands = 0;
  std::vector<std::string> class_names;
  std::vector<std::array<int, 3>> colours;  ///< RGB
  int ignore_id = 255;
  std::string normalize;                            ///< as data::normalization::text()
  std::vector<std::pair<std::string, int>> inputs;  ///< names and bands of the inputs stacked into the image; empty: one image

  std::map<std::string, std::string> to_metadata() const {
    using nlohmann::json;
    return {{"format", "pt"},
            {"rsseg.network", network},
            {"rsseg.classes", std::to_string(classes)},
            {"rsseg.bands", std::to_string(bands)},
            {"rsseg.class_names", json(class_names).dump()},
            {"rsseg.colours", json(colours).dump()},
            {"rsseg.ignore_id", std::to_string(ignore_id)},
            {"rsseg.normalize", normalize},
            {"rsseg.inputs", json(inputs).dump()}};
  }
  /// Empty fields where the file says nothing; input_error if it says nonsense.
  static weights_info from(const io::safetensors_reader& file) {
    using nlohmann::json;
    weights_info w;
    try {
      w.network = file.metadata("rsseg.network");
      w.classes = std::stoi(file.metadata("rsseg.classes", "0"));
      w.bands = std::stoi(file.metadata("rsseg.bands", "0"));
      w.ignore_id = std::stoi(file.metadata("rsseg.ignore_id", "255"));
      w.class_names = json::parse(file.metadata("rsseg.class_names", "[]")).get<std::vector<std::string>>();
      w.colours = json::parse(file.metadata("rsseg.colours", "[]")).get<std::vector<std::array<int, 3>>>();
      w.normalize = file.metadata("rsseg.normalize");
      w.inputs = json::parse(file.metadata("rsseg.inputs", "[]")).get<std::vector<std::pair<std::string, int>>>();
    } catch (const std::exception& e) {
      throw input_error(file.path() + ": its rsseg metadata cannot be read (" + e.what() + "); train again or strip the metadata");
    }
    return w;
  }
};

/// Tensors of the store in file order.
template <class T>
std::vector<io::named_tensor> weights_as_tensors(const parameter_store<T>& store, const std::vector<T>* values = nullptr,
                                                 const std::string& prefix = "", io::dtype as = io::dtype::f32) {
  std::vector<io::named_tensor> out;
  for (const stored_tensor& t : store.entries()) {
    std::vector<T> v(t.size);
    const T* from = (values ? values->data() : store.values().data()) + t.offset;
    parameter_store<T>::reorder(t, [&](std::size_t file, std::size_t here) { v[file] = from[here]; });
    out.push_back(io::named_tensor::of(prefix + t.name, t.dims(), v.data(), as));
  }
  return out;
}

struct load_report {
  std::vector<std::string> missing, unexpected, misshaped, adapted;
  bool complete() const { return missing.empty() && misshaped.empty(); }
  std::string text() const {
    std::string s;
    const auto list = [&](const char* what, const std::vector<std::string>& names) {
      if (names.empty()) return;
      s += (s.empty() ? "" : "; ") + std::to_string(names.size()) + " " + what + ": ";
      for (std::size_t i = 0; i < names.size() && i < 4; ++i) s += (i ? ", " : "") + names[i];
      if (names.size() > 4) s += ", ...";
    };
    list("missing", missing), list("unexpected", unexpected), list("of another shape", misshaped), list("adapted to the band count", adapted);
    return s;
  }
};

struct load_options {
  bool strict = true;            ///< missing or mis-shaped tensors are an input_error; otherwise they keep their values
  bool allow_unexpected = true;  ///< heads of other tasks in public checkpoints
  std::string prefix;            ///< in front of the file's names, e.g. "model."
};

/// Reads weights by name. The first convolution adapts to another band count: bands beyond the file's get the mean over its input
/// channels, and the whole is scaled to keep the response (channels_file / channels_here).
template <class T>
load_report load_weights(const io::safetensors_reader& file, parameter_store<T>& store, const load_options& options = {}) {
  load_report report;
  std::vector<bool> used(file.entries().size(), false);
  bool first_conv = true;
  for (std::size_t e = 0; e < store.entries().size(); ++e) {
    const stored_tensor& t = store.entries()[e];
    const std::string name = options.prefix + t.name;
    const bool stem = first_conv && t.at.rank == 4;
    if (t.at.rank == 4) first_conv = false;
    const io::tensor_entry* found = file.find(name);
    if (!found) {
      report.missing.push_back(t.name);
      continue;
    }
    used[std::size_t(found - file.entries().data())] = true;
    const auto dims = t.dims();
    if (found->dims == dims) {
      store.from_file_order(int(e), file.values<T>(name).data());
    } else if (stem && found->dims.size() == 4 && found->dims[0] == dims[0] && found->dims[2] == dims[2] && found->dims[3] == dims[3]) {
      const auto v = file.values<T>(name);
      const std::size_t o = std::size_t(dims[0]), hw = std::size_t(dims[2] * dims[3]), in = std::size_t(found->dims[1]), want = std::size_t(dims[1]);
      std::vector<T> adapted(t.size);
      for (std::size_t i = 0; i < o; ++i)
        for (std::size_t p = 0; p < hw; ++p) {
          T mean = 0;
          for (std::size_t c = 0; c < in; ++c) mean += v[(i * in + c) * hw + p] / T(in);
          for (std::size_t c = 0; c < want; ++c) adapted[(i * want + c) * hw + p] = (c < in ? v[(i * in + c) * hw + p] : mean) * T(in) / T(want);
        }
      store.from_file_order(int(e), adapted.data());
      report.adapted.push_back(t.name);
    } else {
      report.misshaped.push_back(t.name + " (file " + io::dims_text(found->dims) + ", network " + io::dims_text(dims) + ")");
    }
  }
  for (std::size_t i = 0; i < used.size(); ++i)
    if (!used[i] && file.entries()[i].name.find("num_batches_tracked") == std::string::npos) report.unexpected.push_back(file.entries()[i].name);
  if (options.strict && (!report.complete() || (!options.allow_unexpected && !report.unexpected.empty())))
    throw input_error(file.path() + ": does not fit the network: " + report.text() + "; check --net and --classes");
  store.touch();
  return report;
}

}  // namespace rsseg::train
