#include "engine/compressed_stage.h"

#include <ATen/ATen.h>

#include <optional>

#include "dist/partition.h"
#include "engine/quantized_linears.h"
#include "formats/tensor_bridge.h"
#include "kernels/check.h"

namespace halftone {
namespace {

constexpr int64_t kAlignment = 64;

// What one rank makes of one source tensor: the tensors that the target stores for it.
struct Item {
  size_t source = 0;                       // of the step's tensors
  std::optional<size_t> linear;            // of the stage, when it is packed
  std::vector<TensorSpec> stored;          // by their names in the compressed step
  std::vector<std::string> suffixes = {};  // of a linear's, in the same order
};

std::vector<Item> items_of(const StageSpec& stage, const StagePlan& plan, const LoadStep& step,
                           DType model_dtype) {
  const std::map<std::string, size_t> linear_of = quantized_linears(stage, plan);
  std::vector<Item> items;
  for (size_t t = 0; t < step.tensors.size(); ++t) {
    const StoredTensor& source = step.tensors[t];
    const auto linear = linear_of.find(source.name);
    Item item{t, std::nullopt, {}};
    if (linear == linear_of.end()) {
      item.stored.push_back({source.name, source.dtype, source.shape});
    } else {
      const LinearSite& site = stage.linears[linear->second];
      item.linear = linear->second;
      for (TensorSpec spec :
           stored_tensors(plan.linears[linear->second], site.out, site.in, model_dtype)) {
        item.suffixes.push_back(spec.name);
        spec.name = site.name + "." + spec.name;
        item.stored.push_back(std::move(spec));
      }
    }
    items.push_back(std::move(item));
  }
  return items;
}

StagePlan without_inputs(StagePlan plan) {
  for (LinearFormat& linear : plan.linears) linear.input = {};
  for (KvFormat& kv : plan.kv) kv = KvFormat::kNone;
  return plan;
}

// One step on its way from what is loaded to what is stored. The image holds the ranks' shares of
// the packing one behind the other.
class StepPacking {
 public:
  StepPacking(const StageSpec& stage, const StagePlan& plan, const LoadStep& step,
              const LoadedStage& loaded, const StageSolution& solution, const SolveContext& context)
      : plan_(plan),
        step_(step),
        loaded_(loaded),
        solution_(solution),
        context_(context),
        items_(items_of(stage, plan, step, context.model_dtype)) {
    std::vector<int64_t> costs;
    for (const Item& item : items_) costs.push_back(step.tensors[item.source].bytes);
    const int ranks = context.cluster.tensors.size();
    const std::vector<int> rank_of = deal_by_cost(costs, ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t begin = image_.bytes;
      if (rank == context.cluster.tensors.rank()) first_entry_ = image_.entries.size();
      for (size_t i = 0; i < items_.size(); ++i) {
        if (rank_of[i] != rank) continue;
        add_entries(items_[i]);
        if (rank == context.cluster.tensors.rank()) mine_.push_back(i);
      }
      bytes_of_rank_.push_back(image_.bytes - begin);
    }
  }

  // The step packed, and the share of it that this rank would hold. Collective.
  std::pair<LoadedStage, HeldStep> run() const {
    Communicator& ranks = context_.cluster.tensors;
    const int64_t part = image_.part_bytes(ranks.size());
    const at::Tensor packed = pack_mine();
    at::Tensor bytes = at::zeros({part * ranks.size()}, packed.options());
    if (ranks.size() == 1) {
      bytes.slice(0, 0, packed.numel()).copy_(packed);
    } else {
      ranks.all_gather_variable(packed.const_data_ptr(), bytes_of_rank_.data(),
                                bytes.mutable_data_ptr());
    }
    const int64_t begin = part * ranks.rank();
    HeldStep held{tensors_, image_, bytes.slice(0, begin, begin + part).clone()};
    return {LoadedStage(tensors_, image_, bytes, context_.cluster.pool), std::move(held)};
  }

 private:
  void add_entries(const Item& item) {
    const StoredTensor& source = step_.tensors[item.source];
    for (const TensorSpec& spec : item.stored) {
      StoredTensor stored;
      stored.name = spec.name;
      stored.shape = spec.shape;
      stored.dtype = spec.dtype;
      stored.pieces.push_back({spec.name, 0, 1});
      stored.bytes = spec.bytes();
      stored.expert = source.expert;
      stored.keeps_dtype = source.keeps_dtype;
      StageImage::Entry& entry = image_.entries.emplace_back();
      entry.piece = stored.pieces.front();
      entry.dtype = spec.dtype;
      entry.shape = spec.shape;
      entry.begin = image_.bytes;
      entry.bytes = stored.bytes;
      image_.bytes += (stored.bytes + kAlignment - 1) / kAlignment * kAlignment;
      tensors_.push_back(std::move(stored));
    }
  }

  // This rank's share of the packing.
  at::Tensor pack_mine() const {
    const auto rank = static_cast<size_t>(context_.cluster.tensors.rank());
    at::Tensor bytes = at::zeros({bytes_of_rank_[rank]},
                                 at::TensorOptions(at::kByte).device(context_.cluster.device));
    size_t entry = first_entry_;
    const auto place = [&](const at::Tensor& tensor) {
      const StageImage::Entry& to = image_.entries[entry++];
      check(static_cast<int64_t>(tensor.nbytes()) == to.bytes,
            "a stored tensor has its planned size: " + to.piece.tensor);
      if (to.bytes == 0) return;
      const int64_t begin = to.begin - image_.entries[first_entry_].begin;
      bytes.slice(0, begin, begin + to.bytes)
          .copy_(tensor.contiguous().reshape({-1}).view(at::kByte));
    };
    for (const size_t i : mine_) {
      if (!items_[i].linear) {
        place(copied(step_.tensors[items_[i].source].name));
        continue;
      }
      const PackedLinear packed = pack(items_[i]);
      for (const std::string& suffix : items_[i].suffixes) place(packed.at(suffix));
    }
    return bytes;
  }

  at::Tensor copied(const std::string& name) const {
    const at::Tensor source = loaded_.tensor(name);
    const auto changed = solution_.tensors.find(name);
    return changed == solution_.tensors.end() ? source : changed->second.to(source.scalar_type());
  }

  PackedLinear pack(const Item& item) const {
    const LinearSolution& solved = solution_.linears[*item.linear];
    const at::Tensor source_NK = loaded_.tensor(step_.tensors[item.source].name);
    const at::Tensor w_NK =
        edited_weight(solved, source_NK.to(scalar_type_of(context_.model_dtype)));
    return pack_linear(plan_.linears[*item.linear], solved, w_NK, context_.numerics,
                       &context_.cluster.pool);
  }

  const StagePlan& plan_;
  const LoadStep& step_;
  const LoadedStage& loaded_;
  const StageSolution& solution_;
  const SolveContext& context_;
  std::vector<Item> items_;
  StageImage image_;
  std::vector<StoredTensor> tensors_;   // of the image
  std::vector<int64_t> bytes_of_rank_;  // of the image, in order
  std::vector<size_t> mine_;            // items
  size_t first_entry_ = 0;              // of this rank's share
};

}  // namespace

PackedLinear stored_linear(const LoadedStage& loaded, const LinearSite& linear,
                           const LinearFormat& format, DType model_dtype) {
  PackedLinear packed;
  for (const TensorSpec& spec : stored_tensors(format, linear.out, linear.in, model_dtype)) {
    packed[spec.name] = loaded.tensor(linear.name + "." + spec.name);
  }
  return unified_tensors(linear.name, format, std::move(packed));
}

CompressedStep Compressor::compress(const LoadStep& step, const LoadedStage& loaded,
                                    const StageSolution& solution) {
  auto [compressed, held] = StepPacking(model_.stages()[step.stage], plan_.stages[step.stage], step,
                                        loaded, solution, context_)
                                .run();
  held_.keep(step, std::move(held));
  return {std::move(compressed), step.part.first};
}

StageWeights Compressor::weights(size_t stage, const LoadedStage& compressed,
                                 at::ScalarType dtype) const {
  return unpacked(model_.stages()[stage], plan_.stages[stage], compressed, dtype);
}

StageWeights Compressor::unpacked(const StageSpec& stage, const StagePlan& plan,
                                  const LoadedStage& compressed, at::ScalarType dtype) const {
  StageWeights weights;
  const std::map<std::string, size_t> linear_of = quantized_linears(stage, plan);
  for (const TensorNeed& need : stage.tensors) {
    const auto found = linear_of.find(need.name);
    if (found == linear_of.end()) {
      if (!compressed.has(need.name)) continue;
      const at::Tensor tensor = compressed.tensor(need.name);
      weights.set(need.name, need.keeps_dtype ? tensor : tensor.to(dtype));
      continue;
    }
    const LinearSite& linear = stage.linears[found->second];
    const LinearFormat& format = plan.linears[found->second];
    if (!compressed.has(linear.name + ".weight")) continue;
    const PackedLinear packed = stored_linear(compressed, linear, format, context_.model_dtype);
    weights.set(need.name, format.codec->unpack(packed, dtype, &context_.cluster.pool));
  }
  return weights;
}

StageWeights Compressor::before_observation(const LoadStep& step, const LoadedStage& loaded,
                                            const std::map<std::string, float>& tensor_amax,
                                            at::ScalarType dtype) const {
  const StageSpec& stage = model_.stages()[step.stage];
  const StagePlan plan = without_inputs(plan_.stages[step.stage]);
  const StageStatistics nothing = unseen_statistics(stage);
  SolveContext context = context_;
  context.expert_floor = 1;
  Choices choices;
  const StageSolution solution =
      solve_calibrated(stage, plan, plan_.recipe,
                       {step.stage, loaded, tensor_amax, nothing, nullptr, {}}, context, choices);
  const LoadedStage compressed =
      StepPacking(stage, plan, step, loaded, solution, context).run().first;
  return unpacked(stage, plan, compressed, dtype);
}

void observe_compressed(const Compressor& compressor, CalibrationOptions& options) {
  const at::ScalarType dtype = scalar_type_of(options.compute_dtype);
  options.observed_weights = [&compressor, dtype](const LoadStep& step, const LoadedStage& loaded,
                                                  const std::map<std::string, float>& amax) {
    return compressor.before_observation(step, loaded, amax, dtype);
  };
}

}  // namespace halftone
