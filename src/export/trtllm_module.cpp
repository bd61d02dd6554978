#include "export/trtllm_module.h"

#include <algorithm>

#include "export/hf_names.h"
#include "kernels/check.h"

namespace halftone {
namespace {

// Output channels of a linear that a rank holds.
struct Part {
  size_t linear = 0;
  int64_t begin = 0;
  int64_t rows = 0;
  bool first_copy = true;  // false: repeated key and value heads
};

using Parts = std::vector<Part>;

Parts qkv_parts(const StageSpec& stage, const TrtModule& module, const ModulePlace& place) {
  const AttentionSite& attention = attention_of(stage, module);
  const int64_t dim = attention.key_dim;
  const int64_t heads = query_heads(stage, module);
  const int64_t kv = attention.kv_heads;
  const int64_t kv_here = std::max<int64_t>(kv / place.tp, 1);
  const int64_t first_kv = place.t * kv / place.tp;
  const bool first_copy = place.tp <= kv || place.t % (place.tp / kv) == 0;
  const bool fused = module.linears.size() == 1;
  const auto linear = [&](size_t i) { return module.linears[fused ? 0 : i]; };
  const int64_t k = fused ? heads : 0;
  const int64_t v = fused ? heads + kv : 0;
  const int64_t heads_here = heads / place.tp;
  return {{linear(0), place.t * heads_here * dim, heads_here * dim},
          {linear(1), (k + first_kv) * dim, kv_here * dim, first_copy},
          {linear(2), (v + first_kv) * dim, kv_here * dim, first_copy}};
}

// Of linears that a module keeps one behind the other: up before gate (trtllm-export.md, 3.4).
Parts column_parts(const StageSpec& stage, const TrtModule& module,
                   const std::vector<size_t>& linears, const ModulePlace& place) {
  Parts parts;
  if (is_fused_gate_up(stage, module)) {
    const int64_t width = stage.linears[linears.front()].out / 2;
    const int64_t here = width / place.tp;
    return {{linears.front(), width + place.t * here, here},
            {linears.front(), place.t * here, here}};
  }
  for (auto i = linears.rbegin(); i != linears.rend(); ++i) {
    const int64_t out = stage.linears[*i].out;
    // Of a padded one the last ranks hold less.
    const int64_t here = place.padded_rows > 0 ? place.padded_rows : out / place.tp;
    const int64_t begin = std::min(place.t * here, out);
    parts.push_back({*i, begin, std::min(here, out - begin)});
  }
  return parts;
}

// Per expert, or all.
std::vector<Parts> parts_of(const StageSpec& stage, const TrtModule& module,
                            const ModulePlace& place) {
  if (is_qkv(module)) return {qkv_parts(stage, module, place)};
  std::map<int, std::vector<size_t>> by_expert;
  for (const size_t i : module.linears) by_expert[stage.linears[i].expert].push_back(i);
  std::vector<Parts> parts;
  for (const auto& [expert, linears] : by_expert) {
    const LinearSite& first = stage.linears[linears.front()];
    if (first.shard == ShardAxis::kInput) {
      parts.push_back({{linears.front(), 0, first.out}});
    } else {
      parts.push_back(column_parts(stage, module, linears, place));
    }
  }
  return parts;
}

std::string target_suffix(const std::string& suffix, const LinearFormat& format) {
  if (suffix == "weight_scale") {
    return format.codec->name() == "fp8 per channel" ? "per_channel_scale"
                                                     : "weights_scaling_factor";
  }
  if (suffix == "weight_scale_2") return "weights_scaling_factor_2";
  if (suffix == "input_scale") return "activation_scaling_factor";
  if (suffix == "pre_quant_scale") return "prequant_scaling_factor";
  return suffix;
}

class ModuleWriter {
 public:
  ModuleWriter(const StageSpec& stage, const StagePlan& plan, const TrtModule& module,
               const ModulePlace& place, DType model_dtype, ReshardBuilder& builder)
      : stage_(stage),
        place_(place),
        builder_(builder),
        model_dtype_(model_dtype),
        format_(plan.linears[module.linears.front()]),
        first_(stage.linears[module.linears.front()]),
        experts_(parts_of(stage, module, place)),
        stacked_(first_.expert >= 0),
        splits_columns_(first_.shard == ShardAxis::kInput) {
    for (const Part& part : experts_.front()) rows_here_ += part.rows;
    rows_ = place.padded_rows > 0 ? place.padded_rows : rows_here_;
    columns_ = splits_columns_ ? first_.in / place.tp : first_.in;
  }

  void write() {
    if (!format_.quantized()) {
      add_matrix("weight", {"", first_.weight, {first_.out, first_.in}});
    } else {
      for (const TensorSpec& spec : stored_tensors(format_, first_.out, first_.in, model_dtype_)) {
        add_stored(spec);
      }
      add_missing_smoothing();
    }
    add_bias();
  }

 private:
  // A stored tensor of the module's linears: its suffix, or the whole name (of an unquantized
  // weight), and its shape for the first linear.
  struct Source {
    std::string suffix;
    std::string name;
    std::vector<int64_t> shape;
  };

  std::string name_of(size_t linear, const Source& source) const {
    if (source.name.empty()) return hf_name(stage_.linears[linear], false, source.suffix);
    return stage_.linears[linear].weight;
  }
  std::string target(const std::string& suffix) const { return place_.name + "." + suffix; }

  std::vector<int64_t> shape_of(std::vector<int64_t> shape) const {
    if (stacked_) shape.insert(shape.begin(), static_cast<int64_t>(experts_.size()));
    return shape;
  }
  DType dtype_of(const std::string& suffix, DType stored) const {
    if (suffix == "weight" && stored == DType::kU8 && is_int4(format_)) return DType::kI8;
    const bool plain =
        suffix == "weight" || suffix == "bias" || suffix == "prequant_scaling_factor";
    return plain && is_floating(stored) && stored != DType::kF8E4M3 ? place_.dtype : stored;
  }

  void add_stored(const TensorSpec& spec) {
    const Source source{spec.name, "", spec.shape};
    const std::string suffix = target_suffix(spec.name, format_);
    if (spec.shape.empty()) {
      add_scalar(suffix, source);
    } else if (spec.name == "pre_quant_scale") {
      add_input_vector(suffix, source);
    } else if (spec.shape.size() == 1) {
      add_output_vector(suffix, source);
    } else {
      add_matrix(suffix, source);
    }
  }

  // Rows and columns in units of the stored tensor: a byte may hold two, a scale serve a block.
  void add_matrix(const std::string& suffix, const Source& source) {
    const int64_t row_unit = first_.out / source.shape[0];
    const int64_t column_unit = first_.in / source.shape[1];
    const int64_t stride = source.shape[1];
    const int64_t columns = columns_ / column_unit;
    const int64_t first_column = splits_columns_ ? place_.t * columns : 0;
    const int64_t rows = rows_ / row_unit;
    const DType stored = builder_.source(name_of(first_part().linear, source)).dtype;
    builder_.declare(place_.file,
                     {target(suffix), dtype_of(suffix, stored), shape_of({rows, columns})});
    for (size_t e = 0; e < experts_.size(); ++e) {
      int64_t to = static_cast<int64_t>(e) * rows * columns;
      for (const Part& part : experts_[e]) {
        const int64_t begin = part.begin / row_unit;
        const int64_t count = part.rows / row_unit;
        const ElementRun run =
            columns == stride
                ? ElementRun{begin * stride, 0, to, count * stride, 1}
                : ElementRun{begin * stride + first_column, stride, to, columns, count};
        if (count > 0) move(name_of(part.linear, source), suffix, run, part.first_copy);
        to += count * columns;
      }
    }
    pad(suffix, rows_here_ / row_unit * columns, (rows_ - rows_here_) / row_unit * columns);
  }

  // One value for each output channel.
  void add_output_vector(const std::string& suffix, const Source& source) {
    const DType stored = builder_.source(name_of(first_part().linear, source)).dtype;
    builder_.declare(place_.file, {target(suffix), dtype_of(suffix, stored), shape_of({rows_})});
    for (size_t e = 0; e < experts_.size(); ++e) {
      int64_t to = static_cast<int64_t>(e) * rows_;
      for (const Part& part : experts_[e]) {
        const bool returns = splits_columns_ ? place_.t == 0 : part.first_copy;
        if (part.rows > 0) {
          move(name_of(part.linear, source), suffix, {part.begin, 0, to, part.rows, 1}, returns);
        }
        to += part.rows;
      }
    }
    pad(suffix, rows_here_, rows_ - rows_here_);
  }

  // One value for each input channel, the same for all linears of an expert.
  void add_input_vector(const std::string& suffix, const Source& source) {
    const DType stored = builder_.source(name_of(first_part().linear, source)).dtype;
    builder_.declare(place_.file, {target(suffix), dtype_of(suffix, stored), shape_of({columns_})});
    std::vector<std::string> names;
    for (size_t e = 0; e < experts_.size(); ++e) {
      const int64_t to = static_cast<int64_t>(e) * columns_;
      const int64_t from = splits_columns_ ? place_.t * columns_ : 0;
      for (const size_t linear : linears_of(experts_[e])) {
        const std::string name = name_of(linear, source);
        const bool writes = linear == experts_[e].front().linear;
        const bool returns = splits_columns_ || place_.t == 0;
        names.push_back(name);
        move(name, suffix, {from, 0, to, columns_, 1}, returns, writes);
      }
    }
    builder_.require_equal(names);
  }

  // One value: of each expert's weights, of all inputs.
  void add_scalar(const std::string& suffix, const Source& source) {
    const bool of_weights = suffix != "activation_scaling_factor";
    const auto experts = static_cast<int64_t>(experts_.size());
    std::vector<int64_t> shape{1};
    if (stacked_ && of_weights) {
      shape = suffix == "weights_scaling_factor_2" && !is_int4(format_)
                  ? std::vector<int64_t>{experts}
                  : std::vector<int64_t>{experts, 1};
    }
    builder_.declare(place_.file, {target(suffix), DType::kF32, shape});
    std::vector<std::string> all;
    for (size_t e = 0; e < experts_.size(); ++e) {
      std::vector<std::string> names;
      for (const size_t linear : linears_of(experts_[e])) {
        names.push_back(name_of(linear, source));
        const bool first = linear == experts_[e].front().linear;
        const int64_t to = of_weights ? static_cast<int64_t>(e) : 0;
        move(names.back(), suffix, {0, 0, to, 1, 1}, place_.t == 0,
             first && (of_weights || e == 0));
      }
      if (of_weights) builder_.require_equal(names);
      all.insert(all.end(), names.begin(), names.end());
    }
    if (!of_weights) builder_.require_equal(all);
  }

  // The consumer's kernels multiply inputs by it in every format that may have one; where it was
  // folded away, or there is none, it is 1.
  void add_missing_smoothing() {
    const bool needed = is_int4(format_) || format_.codec->name() == "int8";
    if (!needed || format_.pre_quant_scale == PreQuantScale::kStored) return;
    const std::string name = target("prequant_scaling_factor");
    builder_.declare(place_.file, {name, place_.dtype, shape_of({columns_})});
    builder_.fill(place_.file, name, 0, static_cast<int64_t>(experts_.size()) * columns_, 1.0f);
  }

  void add_bias() {
    if (first_.bias.empty()) return;
    check(!stacked_, "experts of this layout have no bias");
    const DType stored = builder_.source(first_.bias).dtype;
    builder_.declare(place_.file, {target("bias"), dtype_of("bias", stored), {rows_}});
    int64_t to = 0;
    for (const Part& part : experts_.front()) {
      const bool returns = splits_columns_ ? place_.t == 0 : part.first_copy;
      // Whisper's keys have none: zeros.
      const std::string& bias = stage_.linears[part.linear].bias;
      if (part.rows > 0 && !bias.empty()) {
        move(bias, "bias", {part.begin, 0, to, part.rows, 1}, returns);
      }
      to += part.rows;
    }
  }

  void pad(const std::string& suffix, int64_t begin, int64_t count) {
    if (suffix != "weights_scaling_factor") return;
    builder_.fill(place_.file, target(suffix), begin, count, is_int4(format_) ? 1.0f / 7.0f : 1.0f);
  }

  void move(const std::string& from, const std::string& suffix, const ElementRun& run, bool returns,
            bool writes = true) {
    returns = returns && place_.returns;
    if (!writes && !returns) return;
    builder_.move({from, place_.file, target(suffix), run, false, writes, returns});
  }

  const Part& first_part() const { return experts_.front().front(); }
  // In the order of the parts, each once.
  static std::vector<size_t> linears_of(const Parts& parts) {
    std::vector<size_t> linears;
    for (const Part& part : parts) {
      if (std::find(linears.begin(), linears.end(), part.linear) == linears.end()) {
        linears.push_back(part.linear);
      }
    }
    return linears;
  }

  const StageSpec& stage_;
  const ModulePlace& place_;
  ReshardBuilder& builder_;
  DType model_dtype_;
  const LinearFormat& format_;
  const LinearSite& first_;  // the shapes of all are the same but for rows
  std::vector<Parts> experts_;
  bool stacked_;
  bool splits_columns_;
  int64_t rows_here_ = 0;
  int64_t rows_ = 0;  // with padding
  int64_t columns_ = 0;
};

}  // namespace

void add_module(const StageSpec& stage, const StagePlan& plan, const TrtModule& module,
                const ModulePlace& place, DType model_dtype, ReshardBuilder& builder) {
  ModuleWriter(stage, plan, module, place, model_dtype, builder).write();
}

}  // namespace halftone
