// SPDX-License-Identifier: MIT
// Learners on feature vectors: linear and RBF support vector machines (one against the rest), random forest, multi-layer perceptron, logistic
// regression, all from OpenCV's ml module. An optional feature: define RSSEG_WITH_OPENCV=1 and link opencv_ml and opencv_core; without
// it everything here compiles and says so when used. Model files are OpenCV FileStorage documents (.yml, .yaml, .json), written atomically.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rsseg/classical/features.hpp"
#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/io/atomic_file.hpp"

#if defined(RSSEG_WITH_OPENCV) && RSSEG_WITH_OPENCV
#include <opencv2/core.hpp>
#include <opencv2/ml.hpp>
#define RSSEG_HAS_OPENCV_ML 1
#else
#define RSSEG_HAS_OPENCV_ML 0
#endif

namespace rsseg::classical {

enum class learner { svm_linear, svm_rbf, random_forest, mlp, logistic };
constexpr const char* learner_names[] = {"svm-linear", "svm-rbf", "random-forest", "mlp", "logistic"};

/// Throws usage_error that lists the names.
inline learner learner_of(const std::string& name) {
  for (int i = 0; i < 5; ++i)
    if (name == learner_names[i]) return learner(i);
  throw usage_error("unknown learner '" + name + "'; known: svm-linear, svm-rbf, random-forest, mlp, logistic");
}

struct learner_options {
  learner kind = learner::random_forest;
  double svm_c = 4;      ///< 1..10 usual
  double svm_gamma = 0;  ///< 0: 1 / features (they are standardised)
  int trees = 100, depth = 15, min_samples = 4;
  std::vector<int> hidden{64, 32};
  int iterations = 300;  ///< MLP epochs and logistic steps at most
  std::uint64_t seed = 1;
};

/// A trained learner with what is needed to use it again: what the features were, their standardisation, the class names.
class pixel_classifier {
 public:
  /// x: (count, features), y in [0, classes). Throws usage_error: fewer than two classes present, no OpenCV, numbers that do not fit.
  static pixel_classifier train(const std::vector<float>& x, const std::vector<std::int32_t>& y, int bands, const feature_options& features,
                                const std::vector<std::string>& class_names, const learner_options& options);
  /// Throws output_error; nothing half-written is left.
  void save(const std::string& path) const;
  /// Throws input_error naming the file: missing, malformed, not such a model, inconsistent.
  static pixel_classifier load(const std::string& path);

  /// out (count, classes): scores in [0, 1] with sum 1. SVM margins go through a softmax: ordered, not calibrated.
  void scores(const float* x, std::int64_t count, float* out) const;

  int bands() const { return bands_; }
  int features() const { return int(mean_.size()); }
  int classes() const { return int(class_names_.size()); }
  const feature_options& options() const { return features_; }
  const std::vector<std::string>& class_names() const { return class_names_; }
  learner kind() const { return kind_; }

 private:
  learner kind_ = learner::random_forest;
  int bands_ = 0;
  feature_options features_;
  std::vector<std::string> class_names_;
  std::vector<double> mean_, scale_;
#if RSSEG_HAS_OPENCV_ML
  std::vector<cv::Ptr<cv::ml::StatModel>> models_;  // one; SVM: one per class, null for classes without a sample
  std::vector<int> sign_;                           // SVM: turns the raw output positive for the class
  void raw_scores(const cv::Mat& x, float* out) const;
#endif
};

#if !RSSEG_HAS_OPENCV_ML

namespace detail {
[[noreturn]] inline void no_opencv() {
  throw usage_error(
      "this build has no classical learners: install OpenCV's ml module (Debian: libopencv-ml-dev) and build with it (-Dopencv=enabled)");
}
}  // namespace detail
inline pixel_classifier pixel_classifier::train(const std::vector<float>&, const std::vector<std::int32_t>&, int, const feature_options&,
                                                const std::vector<std::string>&, const learner_options&) {
  detail::no_opencv();
}
inline void pixel_classifier::save(const std::string&) const { detail::no_opencv(); }
inline pixel_classifier pixel_classifier::load(const std::string&) { detail::no_opencv(); }
inline void pixel_classifier::scores(const float*, std::int64_t, float*) const { detail::no_opencv(); }

#else

namespace detail {

/// OpenCV's complaints become exceptions without being printed first.
class quiet_opencv {
 public:
  quiet_opencv() {
    old_ = cv::redirectError([](int, const char*, const char*, const char*, int, void*) { return 0; }, nullptr, &data_);
  }
  ~quiet_opencv() { cv::redirectError(old_, data_); }
  quiet_opencv(const quiet_opencv&) = delete;
  quiet_opencv& operator=(const quiet_opencv&) = delete;

 private:
  cv::ErrorCallback old_ = nullptr;
  void* data_ = nullptr;
};

inline bool is_svm(learner kind) { return kind == learner::svm_linear || kind == learner::svm_rbf; }

}  // namespace detail

inline pixel_classifier pixel_classifier::train(const std::vector<float>& x, const std::vector<std::int32_t>& y, int bands,
                                                const feature_options& features, const std::vector<std::string>& class_names,
                                                const learner_options& o) {
  pixel_classifier c;
  c.kind_ = o.kind, c.bands_ = bands, c.features_ = features, c.class_names_ = class_names;
  const int width = int(feature_names(bands, features).size()), classes = int(class_names.size());
  const std::int64_t count = std::int64_t(y.size());
  if (std::int64_t(x.size()) != count * width)
    throw usage_error("classical training: expected " + std::to_string(width) + " features per sample, got " + std::to_string(x.size()) +
                      " values for " + std::to_string(count) + " samples");
  std::vector<std::int64_t> counts(std::size_t(classes), 0);
  for (const std::int32_t label : y) {
    if (label < 0 || label >= classes) throw usage_error("classical training: label " + std::to_string(label) + " is not a class");
    ++counts[std::size_t(label)];
  }
  if (std::count_if(counts.begin(), counts.end(), [](std::int64_t n) { return n > 0; }) < 2)
    throw usage_error("classical training: labelled samples of at least two classes are needed; check the masks and the ignore label");
  c.mean_.assign(std::size_t(width), 0.0), c.scale_.assign(std::size_t(width), 0.0);
  for (std::int64_t i = 0; i < count * width; ++i) c.mean_[std::size_t(i % width)] += double(x[std::size_t(i)]) / double(count);
  for (std::int64_t i = 0; i < count * width; ++i) {
    const double d = x[std::size_t(i)] - c.mean_[std::size_t(i % width)];
    c.scale_[std::size_t(i % width)] += d * d / double(count);
  }
  for (double& s : c.scale_) s = s > 1e-20 ? 1 / std::sqrt(s) : 0;  // a constant feature says nothing
  cv::Mat data(int(count), width, CV_32F), label(int(count), 1, CV_32S);
  for (std::int64_t i = 0; i < count * width; ++i)
    data.ptr<float>()[i] = float((x[std::size_t(i)] - c.mean_[std::size_t(i % width)]) * c.scale_[std::size_t(i % width)]);
  for (std::int64_t i = 0; i < count; ++i) label.at<int>(int(i)) = y[std::size_t(i)];
  cv::setRNGSeed(int(o.seed & 0x7fffffff));
  const detail::quiet_opencv quiet;
  try {
    if (detail::is_svm(o.kind)) {
      for (int k = 0; k < classes; ++k) {
        c.models_.emplace_back(), c.sign_.push_back(1);
        if (counts[std::size_t(k)] == 0) continue;
        auto svm = cv::ml::SVM::create();
        svm->setType(cv::ml::SVM::C_SVC);
        svm->setKernel(o.kind == learner::svm_linear ? cv::ml::SVM::LINEAR : cv::ml::SVM::RBF);
        svm->setC(o.svm_c);
        svm->setGamma(o.svm_gamma > 0 ? o.svm_gamma : 1.0 / width);
        svm->setTermCriteria({cv::TermCriteria::MAX_ITER + cv::TermCriteria::EPS, 20000, 1e-3});
        cv::Mat one(int(count), 1, CV_32S), raw;
        for (std::int64_t i = 0; i < count; ++i) one.at<int>(int(i)) = y[std::size_t(i)] == k;
        svm->train(data, cv::ml::ROW_SAMPLE, one);
        // The raw output's sign is a convention of the library: it is measured on the samples.
        svm->predict(data, raw, cv::ml::StatModel::RAW_OUTPUT);
        double in = 0, out = 0;
        for (std::int64_t i = 0; i < count; ++i) (y[std::size_t(i)] == k ? in : out) += raw.at<float>(int(i));
        const double n = double(counts[std::size_t(k)]);
        c.sign_.back() = in / n >= out / (double(count) - n) ? 1 : -1;
        c.models_.back() = svm;
      }
    } else if (o.kind == learner::random_forest) {
      auto forest = cv::ml::RTrees::create();
      forest->setMaxDepth(o.depth);
      forest->setMinSampleCount(o.min_samples);
      forest->setActiveVarCount(std::max(1, int(std::sqrt(double(width)))));
      forest->setTermCriteria({cv::TermCriteria::MAX_ITER, o.trees, 0});
      forest->setCalculateVarImportance(false);
      forest->train(data, cv::ml::ROW_SAMPLE, label);
      c.models_ = {forest};
    } else if (o.kind == learner::mlp) {
      auto net = cv::ml::ANN_MLP::create();
      cv::Mat layers(1, int(o.hidden.size()) + 2, CV_32S);
      layers.at<int>(0) = width, layers.at<int>(layers.cols - 1) = classes;
      for (std::size_t i = 0; i < o.hidden.size(); ++i) layers.at<int>(int(i) + 1) = o.hidden[i];
      net->setLayerSizes(layers);
      net->setActivationFunction(cv::ml::ANN_MLP::SIGMOID_SYM, 1, 1);
      net->setTrainMethod(cv::ml::ANN_MLP::RPROP, 0.1);
      net->setTermCriteria({cv::TermCriteria::MAX_ITER + cv::TermCriteria::EPS, o.iterations, 1e-6});
      cv::Mat target(int(count), classes, CV_32F, cv::Scalar(-0.9));
      for (std::int64_t i = 0; i < count; ++i) target.at<float>(int(i), y[std::size_t(i)]) = 0.9f;
      net->train(cv::ml::TrainData::create(data, cv::ml::ROW_SAMPLE, target), cv::ml::ANN_MLP::NO_INPUT_SCALE + cv::ml::ANN_MLP::NO_OUTPUT_SCALE);
      c.models_ = {net};
    } else {
      auto logistic = cv::ml::LogisticRegression::create();
      logistic->setLearningRate(0.1);
      logistic->setIterations(o.iterations);
      logistic->setRegularization(cv::ml::LogisticRegression::REG_L2);
      logistic->setTrainMethod(cv::ml::LogisticRegression::BATCH);
      cv::Mat real;
      label.convertTo(real, CV_32F);
      logistic->train(data, cv::ml::ROW_SAMPLE, real);
      c.models_ = {logistic};
      // Its thetas have one row per class that occurs (one row in all for two): remembered in sign_ as the classes' numbers.
      for (int k = 0; k < classes; ++k)
        if (counts[std::size_t(k)] > 0) c.sign_.push_back(k);
    }
  } catch (const cv::Exception& e) {
    throw usage_error("classical training: OpenCV refused: " + std::string(e.err));
  }
  return c;
}

inline void pixel_classifier::raw_scores(const cv::Mat& x, float* out) const {
  const int classes = this->classes();
  const auto normalize = [&](double* p, float* to) {
    double sum = 0;
    for (int k = 0; k < classes; ++k) sum += p[k] = std::max(p[k], 0.0);
    for (int k = 0; k < classes; ++k) to[k] = float(sum > 0 ? p[k] / sum : 1.0 / classes);
  };
  std::vector<double> p(static_cast<std::size_t>(classes));
  cv::Mat raw;
  if (detail::is_svm(kind_)) {
    std::vector<double> all(std::size_t(x.rows) * classes, -1e30);
    for (int k = 0; k < classes; ++k) {
      if (!models_[std::size_t(k)]) continue;
      models_[std::size_t(k)]->predict(x, raw, cv::ml::StatModel::RAW_OUTPUT);
      for (int i = 0; i < x.rows; ++i) all[std::size_t(i) * classes + k] = 2.0 * sign_[std::size_t(k)] * raw.at<float>(i);
    }
    for (int i = 0; i < x.rows; ++i) {
      const double* a = all.data() + std::size_t(i) * classes;
      const double top = *std::max_element(a, a + classes);
      for (int k = 0; k < classes; ++k) p[std::size_t(k)] = std::exp(a[k] - top);
      normalize(p.data(), out + std::size_t(i) * classes);
    }
  } else if (kind_ == learner::random_forest) {
    static_cast<const cv::ml::RTrees&>(*models_[0]).getVotes(x, raw, 0);  // row 0: the classes of the columns
    for (int i = 0; i < x.rows; ++i) {
      std::fill(p.begin(), p.end(), 0.0);
      for (int j = 0; j < raw.cols; ++j) p[std::size_t(raw.at<int>(0, j))] = raw.at<int>(i + 1, j);
      normalize(p.data(), out + std::size_t(i) * classes);
    }
  } else if (kind_ == learner::mlp) {
    models_[0]->predict(x, raw);
    for (int i = 0; i < x.rows; ++i) {
      for (int k = 0; k < classes; ++k) p[std::size_t(k)] = std::clamp((raw.at<float>(i, k) + 1) / 2.0, 1e-4, 1.0);
      normalize(p.data(), out + std::size_t(i) * classes);
    }
  } else {
    const cv::Mat theta = static_cast<const cv::ml::LogisticRegression&>(*models_[0]).get_learnt_thetas();
    for (int i = 0; i < x.rows; ++i) {
      std::fill(p.begin(), p.end(), 0.0);
      for (int row = 0; row < theta.rows; ++row) {
        double sum = theta.at<float>(row, 0);
        for (int f = 0; f < x.cols; ++f) sum += double(theta.at<float>(row, f + 1)) * x.at<float>(i, f);
        const double s = 1 / (1 + std::exp(-sum));
        if (theta.rows == 1) p[std::size_t(sign_[0])] = 1 - s, p[std::size_t(sign_[1])] = s;
        if (theta.rows > 1) p[std::size_t(sign_[std::size_t(row)])] = s;
      }
      normalize(p.data(), out + std::size_t(i) * classes);
    }
  }
}

inline void pixel_classifier::scores(const float* x, std::int64_t count, float* out) const {
  const int width = features();
  for_chunks(count, 1024, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    cv::Mat data(int(end - begin), width, CV_32F);
    for (std::int64_t i = begin; i < end; ++i)
      for (int f = 0; f < width; ++f) data.at<float>(int(i - begin), f) = float((x[i * width + f] - mean_[std::size_t(f)]) * scale_[std::size_t(f)]);
    raw_scores(data, out + begin * classes());
  });
}

inline void pixel_classifier::save(const std::string& path) const {
  const bool json = io::detail::extension_of(path) == "json";
  std::string text;
  try {
    const detail::quiet_opencv quiet;
    cv::FileStorage fs(json ? "model.json" : "model.yml",
                       cv::FileStorage::WRITE + cv::FileStorage::MEMORY + (json ? cv::FileStorage::FORMAT_JSON : cv::FileStorage::FORMAT_YAML));
    const feature_options& f = features_;
    fs << "rsseg_classical" << 1 << "learner" << learner_names[int(kind_)] << "bands" << bands_ << "classes" << class_names_;
    fs << "features"
       << "{"
       << "local" << int(f.local) << "hsv" << int(f.hsv) << "glcm" << int(f.glcm) << "lbp" << int(f.lbp) << "gabor" << int(f.gabor) << "radius"
       << f.radius << "levels" << f.levels << "lo" << f.lo << "hi" << f.hi << "red" << f.red << "green" << f.green << "blue" << f.blue
       << "near_infrared" << f.near_infrared << "gabor_scales" << f.gabor_bank.scales << "gabor_orientations" << f.gabor_bank.orientations
       << "gabor_wavelength" << f.gabor_bank.first_wavelength << "gabor_bandwidth" << f.gabor_bank.bandwidth << "}";
    fs << "mean" << mean_ << "scale" << scale_ << "signs" << sign_ << "models"
       << "[";
    for (const auto& model : models_) {
      fs << "{"
         << "present" << int(!model.empty());
      if (model)
        fs << "model"
           << "{",
            model->write(fs), fs << "}";
      fs << "}";
    }
    fs << "]";
    text = fs.releaseAndGetString();
  } catch (const cv::Exception& e) {
    throw output_error(path + ": the model could not be serialised: " + e.err);
  }
  io::write_file(path, text);
}

inline pixel_classifier pixel_classifier::load(const std::string& path) {
  const std::string text = io::read_text(path, "classical model", std::uint64_t(1) << 31);
  const auto fail = [&](const std::string& why) { return input_error(path + ": " + why + "; expected a model written by 'rsseg classical train'"); };
  pixel_classifier c;
  try {
    const detail::quiet_opencv quiet;
    cv::FileStorage fs(text, cv::FileStorage::READ + cv::FileStorage::MEMORY);
    if (!fs.isOpened() || fs["rsseg_classical"].empty() || int(fs["rsseg_classical"]) != 1) throw fail("not a classical model of version 1");
    try {
      c.kind_ = learner_of(std::string(fs["learner"]));
    } catch (const usage_error& e) {
      throw fail(e.what());
    }
    c.bands_ = int(fs["bands"]);
    fs["classes"] >> c.class_names_;
    const cv::FileNode f = fs["features"];
    feature_options& o = c.features_;
    o.local = int(f["local"]) != 0, o.hsv = int(f["hsv"]) != 0, o.glcm = int(f["glcm"]) != 0, o.lbp = int(f["lbp"]) != 0,
    o.gabor = int(f["gabor"]) != 0;
    o.radius = int(f["radius"]), o.levels = int(f["levels"]), o.lo = double(f["lo"]), o.hi = double(f["hi"]);
    o.red = int(f["red"]), o.green = int(f["green"]), o.blue = int(f["blue"]), o.near_infrared = int(f["near_infrared"]);
    o.gabor_bank = {int(f["gabor_scales"]), int(f["gabor_orientations"]), double(f["gabor_wavelength"]), double(f["gabor_bandwidth"])};
    fs["mean"] >> c.mean_, fs["scale"] >> c.scale_, fs["signs"] >> c.sign_;
    const int classes = c.classes();
    if (c.bands_ < 1 || c.bands_ > 4096 || classes < 2 || o.radius < 1 || o.radius > 1024 || o.levels < 2 || o.levels > 256 || !(o.hi > o.lo) ||
        o.gabor_bank.scales < 1 || o.gabor_bank.scales > 16 || o.gabor_bank.orientations < 1 || o.gabor_bank.orientations > 64)
      throw fail("bands, classes or feature options are out of range");
    const std::size_t width = feature_names(c.bands_, o).size();
    if (c.mean_.size() != width || c.scale_.size() != width) throw fail("its feature statistics do not fit its feature options");
    for (const cv::FileNode& node : fs["models"]) {
      c.models_.emplace_back();
      if (int(node["present"]) == 0) continue;
      cv::Ptr<cv::ml::StatModel> model;
      if (detail::is_svm(c.kind_)) model = cv::ml::SVM::create();
      if (c.kind_ == learner::random_forest) model = cv::ml::RTrees::create();
      if (c.kind_ == learner::mlp) model = cv::ml::ANN_MLP::create();
      if (c.kind_ == learner::logistic) model = cv::ml::LogisticRegression::create();
      model->read(node["model"]);
      if (!model->isTrained()) throw fail("a learner in it is not trained");
      c.models_.back() = model;
    }
    const bool svm = detail::is_svm(c.kind_);
    if (c.models_.size() != (svm ? std::size_t(classes) : 1) || (!svm && !c.models_[0]) || (svm && c.sign_.size() != std::size_t(classes)))
      throw fail("it does not hold the learners its classes ask for");
    if (c.kind_ == learner::logistic) {
      const cv::Mat theta = static_cast<const cv::ml::LogisticRegression&>(*c.models_[0]).get_learnt_thetas();
      const std::size_t present = theta.rows == 1 ? 2 : std::size_t(theta.rows);
      if (theta.cols != int(width) + 1 || theta.type() != CV_32F || c.sign_.size() != present)
        throw fail("its logistic coefficients do not fit its classes");
      for (const int k : c.sign_)
        if (k < 0 || k >= classes) throw fail("a class number in it is out of range");
    } else if (c.kind_ == learner::mlp) {
      const cv::Mat sizes = static_cast<const cv::ml::ANN_MLP&>(*c.models_[0]).getLayerSizes();
      if (sizes.total() < 2 || sizes.at<int>(0) != int(width) || sizes.at<int>(int(sizes.total()) - 1) != classes)
        throw fail("its layers do not fit its features and classes");
    } else {
      for (const auto& model : c.models_)
        if (model && model->getVarCount() != int(width)) throw fail("a learner in it was trained on another number of features");
    }
    // One sample through the whole path: what still does not fit shows now, not in a parallel loop.
    std::vector<float> zero(width, 0.0f), result(static_cast<std::size_t>(classes));
    if (c.kind_ == learner::random_forest) {
      cv::Mat votes;
      static_cast<const cv::ml::RTrees&>(*c.models_[0]).getVotes(cv::Mat(1, int(width), CV_32F, zero.data()), votes, 0);
      for (int j = 0; j < votes.cols; ++j)
        if (votes.at<int>(0, j) < 0 || votes.at<int>(0, j) >= classes) throw fail("a class number in it is out of range");
    }
    c.raw_scores(cv::Mat(1, int(width), CV_32F, zero.data()), result.data());
  } catch (const cv::Exception& e) {
    throw fail("malformed: " + std::string(e.err));
  }
  return c;
}

#endif

}  // namespace rsseg::classical
