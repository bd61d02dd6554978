#pragma once

#include <map>
#include <string>
#include <vector>

#include "calibrate/algorithm.h"
#include "core/json.h"
#include "engine/stage_loader.h"
#include "export/hf_writer.h"

namespace halftone {

// One output of a run.
struct Target {
  TargetPlan plan;
  HfPlan hf;
  QuantConfig config;
  fs::path out;
};

// What packing records of each linear, by name: format, amax, SQNR in dB.
using LinearRecords = std::map<std::string, Json>;

// Quantizes and copies a stage's tensors into the files of one target. The tensors of a file belong
// to the ranks of one host, so that no two hosts write one file; among those they are dealt by
// bytes.
class StagePacker {
 public:
  StagePacker(const Target& target, HfWriter& writer, const Model& model, DType model_dtype,
              Numerics numerics, const Cluster& cluster);

  void pack(size_t stage, const LoadedStage& loaded, const std::vector<LinearScales>& scales,
            const StageStatistics& statistics);
  // Tensors that belong to no stage, as they are.
  void copy_extra(const Checkpoint& checkpoint);

  const LinearRecords& records() const { return records_; }  // of the linears that this rank packed

 private:
  // A piece of work for one rank. What it writes lies in one file.
  struct Item {
    enum class Kind { kCopy, kLinear, kCacheScales };
    Kind kind;
    size_t index;        // of the entry, linear or attention
    int64_t bytes;       // to read
    std::string output;  // the first tensor that it writes
  };
  std::vector<Item> items_of(size_t stage, const LoadedStage& loaded) const;
  std::vector<bool> owned(const std::vector<Item>& items) const;
  void pack_linear(const StageSpec& stage, const StagePlan& plan, size_t index,
                   const LoadedStage& loaded, const LinearScales& scales);
  void write_cache_scales(const std::string& attention, float key_amax, float value_amax);
  void write_tensor(const std::string& name, const at::Tensor& tensor);

  const Target& target_;
  HfWriter& writer_;
  const Model& model_;
  DType model_dtype_;
  Numerics numerics_;
  Cluster cluster_;
  // A tied tensor belongs to several stages; the first one copies it.
  std::map<std::string, size_t> first_stage_of_;
  LinearRecords records_;
};

}  // namespace halftone
