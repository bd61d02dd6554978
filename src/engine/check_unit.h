#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/check_weights.h"
#include "engine/source_comparison.h"
#include "export/hf_names.h"

namespace halftone {

// A part of a checkpoint that is checked in one piece: linears that engines merge, or one alone, or
// an expert; what else a stage holds; or a tensor of no stage.
struct CheckUnit {
  size_t stage = 0;
  std::vector<size_t> linears;  // of the stage; quantized and sound ones
  std::vector<size_t> copies;   // of the stage's tensors
  std::vector<size_t> caches;   // of its attentions
  std::string extra;
  int64_t bytes = 0;  // to read
};

struct UnitResult {
  Findings findings;
  std::map<std::string, std::optional<double>> sqnr_db;  // WeightCheck
  std::vector<double> cache_scales;
  // Of experts, by role and layer: their input scales.
  std::map<std::string, double> input_scales;
};

// Thread-safe.
class UnitChecker {
 public:
  UnitChecker(const Checkpoint& checkpoint, const Model& model, const HeaderCheck& headers,
              const SourceComparison* source, CheckDepth depth, ThreadPool& pool)
      : checkpoint_(checkpoint),
        model_(model),
        headers_(headers),
        source_(source),
        depth_(depth),
        dtype_(model_dtype(checkpoint)),
        pool_(pool) {}

  std::vector<CheckUnit> plan() const;
  UnitResult check(const CheckUnit& unit) const;

 private:
  std::vector<HfPart> parts_of(size_t stage, size_t linear) const;
  bool reads(const HfPart& part) const;
  void add_linear(size_t stage, size_t linear, CheckUnit& unit) const;
  void check_linear(const CheckUnit& unit, size_t linear, std::map<size_t, PackedLinear>& read,
                    UnitResult& result) const;
  void check_part(const HfPart& part, const at::Tensor& tensor, UnitResult& result) const;
  void check_groups(const CheckUnit& unit, const std::map<size_t, PackedLinear>& read,
                    UnitResult& result) const;
  void check_copy(size_t stage, size_t tensor, UnitResult& result) const;
  void check_cache(const AttentionSite& attention, KvFormat format, UnitResult& result) const;
  void check_extra(const std::string& name, UnitResult& result) const;
  void place(std::optional<Finding> finding, const std::string& tensor, UnitResult& result) const;

  const Checkpoint& checkpoint_;
  const Model& model_;
  const HeaderCheck& headers_;
  const SourceComparison* source_;
  CheckDepth depth_;
  DType dtype_;
  ThreadPool& pool_;
};

}  // namespace halftone
