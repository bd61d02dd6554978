#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "calibrate/target_plan.h"
#include "io/safetensors.h"
#include "model/family.h"

namespace halftone {

// A unified Hugging Face checkpoint as the source of a TensorRT-LLM one: what it holds, known from
// headers or from a plan. The references must outlive it.
struct UnifiedForm {
  const Family& family;
  const Model& model;
  const std::vector<StagePlan>& stages;  // formats, as for the model's stages
  const Json& config;                    // of config.json
  DType dtype;                           // the model's
  std::map<std::string, TensorSpec> tensors;
};

// Tensor and pipeline parallelism of inference.
struct Parallelism {
  int64_t tp = 1;
  int64_t pp = 1;

  int64_t ranks() const { return tp * pp; }
  // File of a rank: tensor parallelism is the fastest.
  size_t file(int64_t stage, int64_t t) const { return static_cast<size_t>(stage * tp + t); }
};

// A checkpoint of its own: the model, or the encoder or the decoder of one that has both.
struct TrtPart {
  std::string folder;  // "encoder"; empty: the only part
  bool decoder = true;
  size_t embedding = 0;        // stages of the model
  std::vector<size_t> layers;  // in order
  size_t closing = 0;          // the stage that holds the last norm
};
std::vector<TrtPart> trtllm_parts(const Model& model);

// A linear's format in that library, "FP8"; empty: it has none.
std::string trtllm_algo(const LinearFormat& format);
// Whether weights are INT4 with two output channels in a byte (AWQ kinds).
bool is_int4(const LinearFormat& format);
bool has_int4(const UnifiedForm& form);

// Rows of embedding and head, over all ranks (trtllm-export.md, 3.6).
struct VocabularyRows {
  int64_t stored = 0;    // what config.json says
  int64_t per_rank = 0;  // ranks times this may be more
};
VocabularyRows vocabulary_rows(const UnifiedForm& form, int64_t tp);

// Linears of a layer that make one module there ("attention.qkv"), in the model's order.
struct TrtModule {
  std::string name;
  std::vector<size_t> linears;
};
std::vector<TrtModule> trtllm_modules(const StageSpec& stage);
// Whether the module is made of gate and up in one tensor of the source (Phi-3).
bool is_fused_gate_up(const StageSpec& stage, const TrtModule& module);
// Whether the module holds query, key and value heads, and of which attention.
bool is_qkv(const TrtModule& module);
const AttentionSite& attention_of(const StageSpec& stage, const TrtModule& qkv);
// Query heads of that attention.
int64_t query_heads(const StageSpec& stage, const TrtModule& qkv);
// Whether no tensor is written for the head: it is the embedding (trtllm-export.md, 3.7).
bool shares_head(const UnifiedForm& form, const Parallelism& parallel);

// Refuses (UsageError) what the layout cannot carry: a family or a format without a path, sizes
// that do not divide. The text names the module and the nearest --tp or --pp that works.
void check_trtllm(const UnifiedForm& form, const Parallelism& parallel);

}  // namespace halftone
