#include "evaluate/compare.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "engine/linear_weights.h"
#include "export/stored_names.h"
#include "formats/tensor_bridge.h"

namespace halftone {
namespace {

std::optional<double> db_of(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide_a = a.to(at::kDouble);
  const double signal = (wide_a * wide_a).sum().item<double>();
  const double noise = (wide_a - b.to(at::kDouble)).square().sum().item<double>();
  if (!(signal > 0.0) || !(noise > 0.0) || !std::isfinite(signal) || !std::isfinite(noise)) {
    return std::nullopt;
  }
  return std::round(1000.0 * 10.0 * std::log10(signal / noise)) / 1000.0;
}

template <typename Map>
std::set<std::string> names_of(const Map& a, const Map& b) {
  std::set<std::string> names(a.begin(), a.end());
  names.insert(b.begin(), b.end());
  return names;
}

std::string described(const TensorInfo& info) {
  return concat(name_of(info.dtype), " ", shape_text(info.shape));
}

class CheckpointComparison {
 public:
  CheckpointComparison(const Checkpoint& a, const Checkpoint& b, ThreadPool& pool)
      : a_(a), b_(b), pool_(pool) {}

  Comparison run(const std::string& family) {
    compare_configs();
    compare_tensors();
    if (!different_.empty()) compare_linears(family);
    return std::move(result_);
  }

 private:
  void compare_configs() {
    compare_members("config.json", a_.config(), b_.config());
    const auto quantization = [](const Checkpoint& checkpoint) {
      const fs::path path = checkpoint.directory() / "hf_quant_config.json";
      const Json json = fs::exists(path) ? read_json_file(path) : Json::object();
      return json.is_object() ? json : Json{{"content", json}};
    };
    compare_members("hf_quant_config.json", quantization(a_), quantization(b_));
  }

  void compare_members(const char* file, const Json& a, const Json& b) {
    const auto keys = [](const Json& json) {
      std::vector<std::string> names;
      for (const auto& [key, value] : json.items()) names.push_back(key);
      return names;
    };
    const auto shown = [](const Json& json, const std::string& key) {
      return json.contains(key) ? json.at(key).dump().substr(0, 200) : std::string("absent");
    };
    for (const std::string& key : names_of(keys(a), keys(b))) {
      const bool same =
          a.contains(key) && b.contains(key) &&
          nlohmann::json::parse(a.at(key).dump()) == nlohmann::json::parse(b.at(key).dump());
      if (!same) add({"config", key, file, shown(a, key), shown(b, key), {}});
    }
  }

  void compare_tensors() {
    std::vector<std::string> both;
    for (const std::string& name : names_of(a_.names(), b_.names())) {
      if (a_.has(name) && b_.has(name)) {
        both.push_back(name);
        continue;
      }
      const Checkpoint& holder = a_.has(name) ? a_ : b_;
      const std::string text = described(holder.info(name));
      add({a_.has(name) ? "only-in-a" : "only-in-b",
           name,
           file_of(name),
           a_.has(name) ? text : "none",
           a_.has(name) ? "none" : text,
           {}});
      different_.insert(name);
    }
    std::vector<std::optional<Difference>> found(both.size());
    pool_.for_each(std::ssize(both), [&](int64_t i) {
      found[static_cast<size_t>(i)] = compare_tensor(both[static_cast<size_t>(i)]);
    });
    result_.compared = std::ssize(both);
    for (size_t i = 0; i < both.size(); ++i) {
      if (found[i]) {
        add(std::move(*found[i]));
        different_.insert(both[i]);
      } else {
        ++result_.equal;
      }
    }
  }

  std::optional<Difference> compare_tensor(const std::string& name) const {
    const TensorInfo& a = a_.info(name);
    const TensorInfo& b = b_.info(name);
    Difference difference{"", name, file_of(name), described(a), described(b), {}};
    if (a.dtype != b.dtype || a.shape != b.shape) {
      difference.kind = a.dtype != b.dtype ? "dtype" : "shape";
      if (a.shape == b.shape && is_full_precision(a.dtype) && is_full_precision(b.dtype)) {
        difference.db = db_of(values(a_, a), values(b_, b));
      }
      return difference;
    }
    const int64_t bytes = different_bytes(name, a.bytes);
    if (bytes == 0) return std::nullopt;
    difference.kind = "bytes";
    difference.b = concat(described(b), ", ", bytes, " of ", b.bytes, " bytes differ");
    if (is_full_precision(a.dtype)) difference.db = db_of(values(a_, a), values(b_, b));
    return difference;
  }

  // In pieces: two tensors may be larger than memory allows at once.
  int64_t different_bytes(const std::string& name, int64_t bytes) const {
    constexpr int64_t kPiece = 4 << 20;
    std::vector<char> left(static_cast<size_t>(std::min(bytes, kPiece)));
    std::vector<char> right(left.size());
    int64_t different = 0;
    for (int64_t begin = 0; begin < bytes; begin += kPiece) {
      const int64_t size = std::min(kPiece, bytes - begin);
      a_.read(name, begin, size, left.data());
      b_.read(name, begin, size, right.data());
      if (std::memcmp(left.data(), right.data(), static_cast<size_t>(size)) == 0) continue;
      for (size_t i = 0; i < static_cast<size_t>(size); ++i) different += left[i] != right[i];
    }
    return different;
  }

  static at::Tensor values(const Checkpoint& checkpoint, const TensorInfo& info) {
    at::Tensor tensor = at::empty(info.shape, scalar_type_of(info.dtype));
    checkpoint.read(info.name, 0, info.bytes, tensor.mutable_data_ptr());
    return tensor;
  }

  std::string file_of(const std::string& name) const {
    return (a_.has(name) ? a_ : b_).file_of(name).filename().string();
  }

  void compare_linears(const std::string& family) {
    try {
      const LinearWeights a(a_, family, pool_);
      const LinearWeights b(b_, family, pool_);
      compare_linears(a, b);
    } catch (const InputError& error) {
      log_warn("the linears are not compared as weights: ", error.what());
    }
  }

  void compare_linears(const LinearWeights& a, const LinearWeights& b) {
    std::vector<std::string> linears;
    for (const auto& [linear, tensors] : a.tensors()) {
      const auto other = b.tensors().find(linear);
      if (other == b.tensors().end()) continue;
      const auto differs = [&](const std::string& name) { return different_.count(name) > 0; };
      if (std::any_of(tensors.begin(), tensors.end(), differs) ||
          std::any_of(other->second.begin(), other->second.end(), differs)) {
        linears.push_back(linear);
      }
    }
    std::vector<std::optional<Difference>> found(linears.size());
    pool_.for_each(std::ssize(linears), [&](int64_t i) {
      const std::string& linear = linears[static_cast<size_t>(i)];
      const at::Tensor w_NK = a.weight(linear);
      const at::Tensor v_NK = b.weight(linear);
      if (w_NK.sizes() != v_NK.sizes() || at::equal(w_NK, v_NK)) return;
      found[static_cast<size_t>(i)] = {"weight",
                                       linear,
                                       file_of(a.tensors().at(linear).front()),
                                       "the weight that its tensors stand for",
                                       "another one",
                                       db_of(w_NK, v_NK)};
    });
    for (std::optional<Difference>& difference : found) {
      if (difference) add(std::move(*difference));
    }
  }

  void add(Difference difference) { result_.differences.push_back(std::move(difference)); }

  const Checkpoint& a_;
  const Checkpoint& b_;
  ThreadPool& pool_;
  std::set<std::string> different_;  // tensors
  Comparison result_;
};

}  // namespace

Comparison compare_checkpoints(const Checkpoint& a, const Checkpoint& b, const std::string& family,
                               ThreadPool& pool) {
  return CheckpointComparison(a, b, pool).run(family);
}

}  // namespace halftone
