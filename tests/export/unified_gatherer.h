#pragma once

#include <algorithm>
#include <array>

#include "core/json.h"
#include "tests/export/rank_tensors.h"

namespace halftone::test {

// Puts a unified checkpoint together again from TensorRT-LLM rank files, by the rules of that
// layout alone (trtllm-export.md, 3 and 4).
class Gatherer {
 public:
  // Rows of a unified module in a fused one of a rank, which so many ranks hold copies of.
  struct Part {
    std::string module;
    int64_t rows = 0;
    int64_t copies = 1;
  };

  explicit Gatherer(const TensorFile& unified) : unified_(unified) {
    for (const auto& [name, tensor] : unified) {
      const auto scale = unified.find(name + "_scale");
      int4_ = int4_ || (tensor.dtype == DType::kU8 && scale != unified.end() &&
                        scale->second.dtype == DType::kF32);
    }
  }

  // What the rank files hold, by its name in the unified checkpoint.
  const TensorFile& found() const { return found_; }

 protected:
  // Suffixes of a linear there and in the unified form.
  static const std::vector<std::pair<std::string, std::string>>& suffixes() {
    static const std::vector<std::pair<std::string, std::string>> kSuffixes{
        {"weight", "weight"},
        {"bias", "bias"},
        {"weights_scaling_factor", "weight_scale"},
        {"per_channel_scale", "weight_scale"},
        {"weights_scaling_factor_2", "weight_scale_2"},
        {"activation_scaling_factor", "input_scale"},
        {"prequant_scaling_factor", "pre_quant_scale"}};
    return kSuffixes;
  }
  static bool is_scalar(const std::string& suffix) {
    return suffix == "activation_scaling_factor" || suffix == "weights_scaling_factor_2";
  }
  static bool is_input_vector(const std::string& suffix) {
    return suffix == "prequant_scaling_factor";
  }

  bool has(const std::string& name) const { return unified_.count(name) > 0; }
  const RankTensor& unified(const std::string& name) const {
    require(has(name), name, "not in the unified checkpoint");
    return unified_.at(name);
  }

  void set(const std::string& name, RankTensor tensor) {
    const auto wide = unified_.find(name);
    if (tensor.dtype == DType::kF16 && wide != unified_.end() &&
        (wide->second.dtype == DType::kF32 || wide->second.dtype == DType::kBF16)) {
      require(tensor == as_f16(wide->second), name, "not the source rounded to F16");
      tensor = wide->second;
    }
    const auto [entry, added] = found_.emplace(name, tensor);
    require(added || entry->second == tensor, name, "comes twice and differs");
  }

  static void check_ones(const RankTensor& tensor, const std::string& name) {
    const std::string one = tensor.dtype == DType::kBF16  ? std::string("\x80\x3f", 2)
                            : tensor.dtype == DType::kF16 ? std::string("\x00\x3c", 2)
                                                          : std::string("\x00\x00\x80\x3f", 4);
    for (size_t i = 0; i < tensor.data.size(); i += one.size()) {
      require(tensor.data.compare(i, one.size(), one) == 0, name, "expected ones");
    }
  }

  // INT4 bytes are unsigned in the unified form.
  RankTensor stored(RankTensor tensor, const std::string& suffix) const {
    if (suffix == "weight" && tensor.dtype == DType::kI8 && int4_) tensor.dtype = DType::kU8;
    return tensor;
  }
  // Output channels of a stored weight.
  int64_t channels(const RankTensor& weight) const {
    return weight.rows() * (int4_ && weight.dtype == DType::kI8 ? 2 : 1);
  }

  void column(Ranks& ranks, int64_t stage, const std::string& module,
              const std::vector<Part>& parts) {
    int64_t total = 0;
    for (const Part& part : parts) total += part.rows;
    for (const auto& [suffix, here] : suffixes()) {
      const std::string name = module + "." + suffix;
      if (!ranks.has(stage, name)) continue;
      const std::vector<RankTensor> tensors = ranks.take(stage, name);
      if (is_input_vector(suffix) || is_scalar(suffix) ||
          tensors[0].shape == std::vector<int64_t>{1}) {
        std::vector<std::string> targets;
        for (const Part& part : parts) targets.push_back(part.module + "." + here);
        replicas(tensors, suffix, targets, name);
        continue;
      }
      const int64_t unit = total / tensors[0].rows();
      int64_t begin = 0;
      for (const Part& part : parts) {
        std::vector<RankTensor> slices;
        for (const RankTensor& tensor : tensors) {
          slices.push_back(rows_of(tensor, begin / unit, (begin + part.rows) / unit));
        }
        begin += part.rows;
        add_slices(part, part.module + "." + here, suffix, slices, name);
      }
    }
  }

  void row(Ranks& ranks, int64_t stage, const std::string& module, const std::string& target) {
    for (const auto& [suffix, here] : suffixes()) {
      const std::string name = module + "." + suffix;
      if (!ranks.has(stage, name)) continue;
      const std::vector<RankTensor> tensors = ranks.take(stage, name);
      const std::string to = target + "." + here;
      if (is_input_vector(suffix)) {
        const RankTensor whole = cat_rows(tensors);
        has(to) ? set(to, whole) : check_ones(whole, name);
      } else if (tensors[0].shape.size() == 2) {
        set(to, stored(cat_columns(tensors), suffix));
      } else if (tensors[0].shape == std::vector<int64_t>{1}) {
        replicas(tensors, suffix, {to}, name);
      } else {
        set(to, Ranks::same(tensors, name));
      }
    }
  }

  // names: per expert its unified modules, up before gate, or one alone.
  void experts(Ranks& ranks, int64_t stage, const std::string& module,
               const std::vector<std::vector<std::string>>& names) {
    const bool halves = names.at(0).size() > 1;
    for (const auto& [suffix, here] : suffixes()) {
      const std::string name = module + "." + suffix;
      if (!ranks.has(stage, name)) continue;
      const std::vector<RankTensor> tensors = ranks.take(stage, name);
      if (suffix == "activation_scaling_factor") {
        std::vector<std::string> targets;
        for (const auto& group : names) {
          for (const std::string& one : group) targets.push_back(one + ".input_scale");
        }
        replicas(tensors, suffix, targets, name);
        continue;
      }
      for (const RankTensor& tensor : tensors) {
        require(tensor.rows() == std::ssize(names), name, "one part for each expert");
      }
      for (size_t e = 0; e < names.size(); ++e) {
        std::vector<std::string> targets;
        for (const std::string& one : names[e]) targets.push_back(one + "." + here);
        std::vector<RankTensor> mine;
        for (const RankTensor& tensor : tensors) mine.push_back(expert(tensor, e));
        if (is_input_vector(suffix) && !halves) mine = {cat_rows(mine)};
        const bool scalar = mine[0].shape.empty() || mine[0].shape == std::vector<int64_t>{1};
        if (is_input_vector(suffix) || scalar) {
          replicas(mine, suffix, targets, name);
        } else if (halves) {
          const int64_t half = mine[0].rows() / 2;
          for (int64_t h = 0; h < 2; ++h) {
            std::vector<RankTensor> parts;
            for (const RankTensor& one : mine)
              parts.push_back(rows_of(one, h * half, h * half + half));
            set(targets[static_cast<size_t>(h)], stored(cat_rows(parts), suffix));
          }
        } else {
          set(targets[0], stored(cat_columns(mine), suffix));
        }
      }
    }
  }

  static RankTensor expert(const RankTensor& tensor, size_t e) {
    const size_t size = tensor.data.size() / static_cast<size_t>(tensor.rows());
    return {tensor.dtype,
            {tensor.shape.begin() + 1, tensor.shape.end()},
            tensor.data.substr(e * size, size)};
  }

  // The padding is zero.
  static RankTensor vocabulary(Ranks& ranks, int64_t stage, const std::string& name, int64_t rows) {
    const RankTensor whole = cat_rows(ranks.take(stage, name));
    const RankTensor rest = rows_of(whole, rows, whole.rows());
    require(rest.data.find_first_not_of('\0') == std::string::npos, name, "padding is not zero");
    return rows_of(whole, 0, rows);
  }

  // What column() has met so far becomes tensors. Rank files have up before gate.
  void join_pieces() {
    for (auto& [target, pieces] : pieces_) {
      if (pieces.size() == 2 && target.find(".gate_up_proj.") != std::string::npos) {
        std::swap(pieces[0], pieces[1]);
      }
      set(target, cat_rows(pieces));
    }
    pieces_.clear();
  }

  bool int4() const { return int4_; }

 private:
  void add_slices(const Part& part, const std::string& target, const std::string& suffix,
                  const std::vector<RankTensor>& slices, const std::string& name) {
    if (suffix == "bias" && !has(target)) {
      for (const RankTensor& one : slices) {
        require(one.data.find_first_not_of('\0') == std::string::npos, name, "expected zeros");
      }
      return;
    }
    std::vector<RankTensor> once;
    for (size_t i = 0; i < slices.size(); ++i) {
      const size_t first = i - i % static_cast<size_t>(part.copies);
      require(slices[i] == slices[first], name, "repeated heads differ");
      if (i == first) once.push_back(slices[i]);
    }
    pieces_[target].push_back(stored(cat_rows(once), suffix));
  }

  void replicas(const std::vector<RankTensor>& tensors, const std::string& suffix,
                const std::vector<std::string>& targets, const std::string& name) {
    RankTensor tensor = Ranks::same(tensors, name);
    if (!is_input_vector(suffix)) tensor.shape.clear();
    for (const std::string& target : targets) {
      if (is_input_vector(suffix) && !has(target)) {
        check_ones(tensor, name);
      } else {
        set(target, tensor);
      }
    }
  }

  const TensorFile& unified_;
  TensorFile found_;
  std::map<std::string, std::vector<RankTensor>> pieces_;
  bool int4_ = false;
};

}  // namespace halftone::test
