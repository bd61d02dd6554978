#include "engine/exported_formats.h"

#include "core/error.h"
#include "core/log.h"
#include "export/hf_layout.h"
#include "export/hf_names.h"
#include "export/library_target.h"
#include "export/linear_headers.h"
#include "export/stored_quantization.h"
#include "formats/codecs.h"
#include "formats/quant_algo.h"

namespace halftone {
namespace {

class FormatReader {
 public:
  explicit FormatReader(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint), stored_(read_quantization(checkpoint)) {}

  StagePlan read(const StageSpec& stage) const {
    StagePlan plan;
    for (const LinearSite& linear : stage.linears) plan.linears.push_back(format_of(linear));
    for (const AttentionSite& site : stage.attentions) plan.kv.push_back(cache_format(site));
    return plan;
  }

 private:
  // Whether the checkpoint stacks this expert with its peers, quantized.
  bool is_stacked(const LinearSite& linear) const {
    return !linear.stacked.empty() && !is_library() &&
           checkpoint_.has(hf_name(linear, true, "weight_scale"));
  }

  LinearFormat format_of(const LinearSite& linear) const {
    const bool stacked = is_stacked(linear);
    const auto has = [&](const std::string& suffix) {
      return checkpoint_.has(hf_name(linear, stacked, suffix));
    };
    if (stored_.uniform.algo == "NF4") return nf4_format_of(linear);
    if (!has(stored_.scales())) return {};
    const auto layer = stored_.layers.find(stacked ? container_of(linear) : linear.name);
    const auto& entry = layer != stored_.layers.end() ? layer->second : stored_.uniform;
    if (is_library() && entry.format.quantized()) {
      return format_in_library(stored_, entry, linear, checkpoint_);
    }
    const auto format = format_of_algo(entry.algo, entry.group_size, entry.weight_only, has);
    if (!format) {
      throw InputError(concat("'", checkpoint_.directory().string(), "': '", linear.name,
                              "' is stored as '", entry.algo, "', which cannot be read yet"));
    }
    LinearFormat found = *format;
    if (has(kLowRankA)) {
      const TensorInfo& a = checkpoint_.info(linear.name + "." + kLowRankA);
      if (a.shape.size() == 2) found.low_rank = a.shape[0];
    }
    return found;
  }

  LinearFormat nf4_format_of(const LinearSite& linear) const {
    LinearFormat format;
    const std::string state = linear.name + "." + kNf4State;
    if (!checkpoint_.has(state)) return format;
    format.codec = make_nf4_codec(checkpoint_.info(state).count());
    return format;
  }

  KvFormat cache_format(const AttentionSite& attention) const {
    const auto format = kv_format_of_scheme(
        stored_.kv_scheme, checkpoint_.has(key_scale_name(attention.name, is_library())),
        checkpoint_.has(key_bias_name(attention.name)));
    if (format) return *format;
    throw InputError(concat((checkpoint_.directory() / "config.json").string(),
                            ": this kv_cache_scheme cannot be read, or '", attention.name,
                            "' lacks its scales; known: FP8, NVFP4, NVFP4_AFFINE"));
  }

  bool is_library() const { return stored_.library != nullptr; }

  const Checkpoint& checkpoint_;
  StoredQuantization stored_;
};

}  // namespace

std::vector<StagePlan> exported_formats(const Checkpoint& checkpoint, const Model& model) {
  const FormatReader reader(checkpoint);
  std::vector<StagePlan> plans;
  for (const StageSpec& stage : model.stages()) plans.push_back(reader.read(stage));
  return plans;
}

}  // namespace halftone
