#include "export/engine_sharding.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/log.h"

namespace halftone {
namespace {

// What the rows and the columns of a shard must be multiples of; 0: the codec's block.
struct ShardRow {
  std::string_view codec;  // its name begins with this
  int64_t out;
  int64_t in;
};
constexpr std::array kShards{
    ShardRow{"fp8 tiles", 128, 128}, ShardRow{"fp8", 1, 1},   ShardRow{"int8", 1, 1},
    ShardRow{"int4", 2, 0},          ShardRow{"nvfp4", 1, 0}, ShardRow{"mxfp4", 1, 32},
    ShardRow{"mxfp8", 1, 32},        ShardRow{"nf4", 1, 64},
};

class LayerShards {
 public:
  LayerShards(const StageSpec& stage, int64_t tp) : stage_(stage), tp_(tp) {}

  void check(const LinearSite& linear, const LinearFormat& format, bool tiles_at_one) {
    if (linear.shard == ShardAxis::kNone) return;
    int64_t out = 1;
    int64_t in = 1;
    if (format.quantized()) {
      const std::string name = format.codec->name();
      const auto row = std::find_if(kShards.begin(), kShards.end(), [&](const ShardRow& entry) {
        return name.starts_with(entry.codec);
      });
      if (row != kShards.end()) {
        out = row->out;
        in = row->in == 0 ? format.codec->block() : row->in;
      }
    }
    const bool tiles = out == 128;
    if (tp_ == 1 && !(tiles && tiles_at_one)) return;
    const bool by_output = linear.shard == ShardAxis::kOutput;
    const int64_t parts = by_output ? parts_of_output(linear) : tp_;
    if (by_output || (tiles && tiles_at_one)) {
      divide(linear, "rows", linear.out, by_output ? parts : 1, out);
    }
    if (!by_output || (tiles && tiles_at_one)) {
      divide(linear, "columns", linear.in, by_output ? 1 : parts, in);
    }
  }

  void check_heads(const AttentionSite& attention) {
    const int64_t heads = attention.kv_heads;
    if (heads % tp_ != 0 && tp_ % heads != 0) {
      faults.push_back({"engine-tp-heads", attention.name,
                        concat("KV heads that ", tp_, " GPUs share or repeat evenly"),
                        concat(heads, " KV heads")});
    }
    for (const LinearSite& linear : stage_.linears) {
      if (linear.name != attention.name + ".q_proj" || attention.key_dim == 0) continue;
      const int64_t queries = linear.out / attention.key_dim;
      if (queries % tp_ == 0) continue;
      faults.push_back({"engine-tp-heads", attention.name,
                        concat("heads that ", tp_, " GPUs share evenly"),
                        concat(queries, " heads")});
    }
  }

  std::vector<ShardFault> faults;

 private:
  // KV heads are repeated where there are more GPUs.
  int64_t parts_of_output(const LinearSite& linear) const {
    for (const AttentionSite& attention : stage_.attentions) {
      const bool kv =
          linear.name == attention.name + ".k_proj" || linear.name == attention.name + ".v_proj";
      if (kv && tp_ % attention.kv_heads == 0) return std::min(tp_, attention.kv_heads);
    }
    return tp_;
  }

  void divide(const LinearSite& linear, const char* what, int64_t size, int64_t parts,
              int64_t multiple) {
    if (size % (parts * multiple) == 0) return;
    faults.push_back({"engine-tp-divides", linear.name,
                      concat(what, " in ", parts, " equal shards",
                             multiple == 1 ? "" : concat(" of whole blocks of ", multiple)),
                      concat(size, " ", what)});
  }

  const StageSpec& stage_;
  int64_t tp_;
};

}  // namespace

std::vector<ShardFault> shard_faults(const StageSpec& stage, const StagePlan& plan, int64_t tp,
                                     bool tiles_at_one) {
  LayerShards shards(stage, tp);
  for (size_t i = 0; i < stage.linears.size(); ++i) {
    shards.check(stage.linears[i], plan.linears[i], tiles_at_one);
  }
  if (tp > 1) {
    for (const AttentionSite& attention : stage.attentions) shards.check_heads(attention);
  }
  return std::move(shards.faults);
}

}  // namespace halftone
