#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "calibrate/solution.h"
#include "core/json.h"
#include "engine/compressed_stage.h"
#include "engine/side_stream.h"
#include "export/hf_names.h"
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

// Tensors for a write queue, whose thread fetches those of a GPU while the GPU computes on.
class DeviceReader {
 public:
  explicit DeviceReader(at::Device device) : side_(device) {}
  // The tensor must not change until it is written.
  HeldBytes bytes_of(const at::Tensor& tensor);

 private:
  SideStream side_;
  at::Tensor staging_;  // pinned; of the writing thread
};

// Quantizes and copies a stage's tensors into the files of one target. The tensors of a file belong
// to the ranks of one host, so that no two hosts write one file; among those they are dealt by
// bytes.
class StagePacker {
 public:
  StagePacker(const Target& target, HfWriter& writer, const Model& model, DType model_dtype,
              Numerics numerics, const Cluster& cluster);

  // `compressed`: a step of the stage that is packed already, whose tensors alone are written;
  // null: the whole stage is packed here.
  void pack(size_t stage, const LoadedStage& loaded, const StageSolution& solution,
            const CompressedStep* compressed = nullptr);
  // Tensors that belong to no stage, as they are.
  void copy_extra(const SourceLayout& source);

  // Of the linears that this rank packed since the last call.
  LinearRecords take_records() { return std::exchange(records_, {}); }

 private:
  // A piece of work for one rank. What it writes lies in one file.
  struct Item {
    enum class Kind { kCopy, kLinear, kCacheScales };
    Kind kind;
    size_t index;        // of the tensor, linear or attention
    int64_t bytes;       // to read
    std::string output;  // the first tensor that it writes
  };
  std::vector<Item> items_of(size_t stage, const LoadedStage& loaded) const;
  std::vector<bool> owned(const std::vector<Item>& items) const;
  static bool is_in(const CompressedStep& compressed, const StageSpec& stage, const Item& item);
  void write_linear(const LinearSite& linear, const LinearFormat& format, int64_t experts,
                    const LoadedStage& loaded, const LinearSolution& solution,
                    const CompressedStep* compressed);
  void write_copy(const TensorNeed& need, const LoadedStage& loaded, const StageSolution& solution,
                  const CompressedStep* compressed);
  void write_part(const HfPart& part, const at::Tensor& tensor);
  void write_cache(const std::string& attention, const CacheSolution& cache);
  void write_tensor(const std::string& name, const at::Tensor& tensor);

  const Target& target_;
  HfWriter& writer_;
  const Model& model_;
  DType model_dtype_;
  Numerics numerics_;
  Cluster cluster_;
  DeviceReader reader_;
  // A tied tensor belongs to several stages; the first one copies it.
  std::map<std::string, size_t> first_stage_of_;
  LinearRecords records_;
};

}  // namespace halftone
