#include "engine/memory_model.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

#include "calibrate/algorithm.h"
#include "engine/sqnr.h"
#include "engine/stage_loader.h"
#include "io/write_queue.h"
#include "model/source_layout.h"

namespace halftone {
namespace {

// What LibTorch and its libraries load and allocate when they are first used.
constexpr int64_t kLibraries = int64_t{30} << 20;
// The same of a run on a GPU: of the host, and of the GPU (workspaces).
constexpr int64_t kGpuLibraries = int64_t{900} << 20;
constexpr int64_t kGpuWorkspaces = int64_t{48} << 20;
// What experts' inputs vary by: the busiest one gets so much of a batch.
constexpr int64_t kBusiestExpert = 4;
// The allocator of the host maps larger blocks on their own and gives them back at once; smaller
// ones that are freed stay, in pieces, until the stage is over. Shares as measured.
constexpr int64_t kMappedBlock = int64_t{32} << 20;
constexpr double kKeptOfActivations = 0.12;  // of one batch at a time
constexpr double kKeptOfConcurrent = 0.16;   // of several
constexpr double kKeptOfScores = 0.09;
constexpr double kKeptOfSearches = 0.7;

int64_t share_of(int64_t bytes, double share) {
  return static_cast<int64_t>(static_cast<double>(bytes) * share);
}

int64_t count_of(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// Parts of one moment by name; the order is that of adding.
class Moment {
 public:
  Moment(std::string stage, std::string phase, bool gpu)
      : stage_(std::move(stage)), phase_(std::move(phase)), gpu_(gpu) {}

  void host(const std::string& name, int64_t bytes) { parts_.push_back({name, bytes, 0}); }
  // Where tensors are computed with.
  void tensors(const std::string& name, int64_t bytes) {
    parts_.push_back({name, gpu_ ? 0 : bytes, gpu_ ? bytes : 0});
  }
  int64_t host_bytes() const { return sum(&MemoryPart::host_bytes); }
  int64_t device_bytes() const { return sum(&MemoryPart::device_bytes); }
  const std::vector<MemoryPart>& parts() const { return parts_; }
  const std::string& stage() const { return stage_; }
  const std::string& phase() const { return phase_; }

 private:
  int64_t sum(int64_t MemoryPart::*member) const {
    int64_t bytes = 0;
    for (const MemoryPart& part : parts_) bytes += part.*member;
    return bytes;
  }

  std::string stage_;
  std::string phase_;
  bool gpu_;
  std::vector<MemoryPart> parts_;
};

class Predictor {
 public:
  explicit Predictor(const MemoryInputs& in)
      : in_(in),
        width_(size_of(in.compute_dtype)),
        mine_((in.batches.batches + in.ranks - 1) / in.ranks),
        steps_(plan_loads(*in.stages, in.stage_limit)) {}

  MemoryPlan run() {
    for (size_t s = 0; s < in_.specs->size(); ++s) {
      const bool computed = s < computed_stages();
      if (computed) add_forward(s);
      if (computed && in_.observe[s].capture) add_solve(s);
      add_pack(s);
    }
    return std::move(plan_);
  }

 private:
  size_t computed_stages() const {
    size_t end = 0;
    for (size_t s = 0; s < in_.observe.size(); ++s) {
      if (in_.observe[s].any()) end = s + 1;
    }
    return end;
  }

  const StageSpec& spec(size_t s) const { return (*in_.specs)[s]; }
  bool of_encoder(size_t s) const { return spec(s).name.starts_with("encoder"); }
  int64_t tokens(size_t s) const {
    const BatchShape& batch = in_.batches;
    const bool encoder = of_encoder(s) && batch.encoder_length > 0;
    return batch.rows * (encoder ? batch.encoder_length : batch.length);
  }
  int64_t in_flight() const { return in_.gpu ? 1 : std::min<int64_t>(in_.threads, mine_); }

  Moment begin(size_t s, const char* phase) const {
    Moment moment(spec(s).name, phase, in_.gpu);
    moment.host("process", in_.base_bytes);
    moment.host("libraries", in_.gpu ? kGpuLibraries : kLibraries);
    if (in_.gpu) moment.tensors("libraries", kGpuWorkspaces);
    add_buffers(moment);
    moment.tensors("held weights", in_.held_bytes / in_.ranks);
    moment.tensors("hidden states", hidden_bytes());
    return moment;
  }

  // Two buffers that steps take in turns, as large as the largest step that used them.
  void add_buffers(Moment& moment) const {
    int64_t buffers[2] = {0, 0};
    for (size_t i = 0; i < steps_.size(); ++i) {
      buffers[i % 2] = std::max(buffers[i % 2], bytes_of(steps_[i].tensors));
    }
    moment.tensors("weights of two stages", buffers[0] + buffers[1]);
    if (!in_.gpu) return;
    const int64_t staged = std::max(buffers[0], buffers[1]) / in_.ranks;
    moment.host("on the way to and from the GPU",
                std::min(staged, StageLoader::kStagingBytes) + HeldBytes::kPieceBytes);
  }

  int64_t hidden_bytes() const {
    const BatchShape& batch = in_.batches;
    const int64_t positions = batch.rows * (batch.length + batch.encoder_length);
    const int64_t one = mine_ * positions * in_.hidden_size * width_;
    if (computed_stages() == 0) return 0;
    return in_.propagate_quantized ? 2 * one : one;
  }

  // The weights of one step in the compute dtype, where they are no views of what was loaded.
  int64_t computed_weights(size_t s) const {
    int64_t largest = 0;
    for (const LoadStep& step : steps_) {
      if (step.stage != s) continue;
      int64_t bytes = 0;
      for (const StoredTensor& tensor : step.tensors) {
        const bool decoded = in_.copies_weights || tensor.codec != nullptr || tensor.transposed;
        const bool view = !decoded && (tensor.keeps_dtype || tensor.dtype == in_.compute_dtype);
        if (!view) bytes += count_of(tensor.shape) * width_;
      }
      largest = std::max(largest, bytes);
    }
    return largest;
  }

  struct Widths {
    int64_t attention = 0;     // output channels of its linears
    int64_t feed_forward = 0;  // of the others
    int64_t expert = 0;        // of one expert
    int64_t input = 0;         // the widest
    int64_t all_inputs = 0;    // of all linears
  };
  Widths widths(size_t s) const {
    Widths widths;
    for (const LinearSite& linear : spec(s).linears) {
      widths.all_inputs += linear.in;
      if (linear.expert >= 0) {
        if (linear.expert == 0) widths.expert += linear.out + linear.in;
        continue;
      }
      widths.input = std::max(widths.input, linear.in);
      (attention_of(s, linear) ? widths.attention : widths.feed_forward) += linear.out;
    }
    return widths;
  }
  bool attention_of(size_t s, const LinearSite& linear) const {
    return std::any_of(
        spec(s).attentions.begin(), spec(s).attentions.end(),
        [&](const AttentionSite& site) { return linear.name.starts_with(site.name + "."); });
  }

  bool maps_states(size_t s) const { return tokens(s) * in_.hidden_size * width_ >= kMappedBlock; }

  // What the batches that are through have left with the allocator.
  int64_t kept_of_activations(size_t s) const {
    if (in_.gpu) return 0;
    const int64_t scores = score_bytes(s);
    const int64_t others = maps_states(s) ? 0 : mine_ * (activation_bytes(s) - scores);
    int64_t small_scores = mine_ * scores;
    if (scores / 4 >= kMappedBlock) {
      // At most those in the compute dtype.
      small_scores = scores / 8 >= kMappedBlock ? 0 : small_scores / 4;
    }
    return share_of(others, in_flight() > 1 ? kKeptOfConcurrent : kKeptOfActivations) +
           share_of(small_scores, kKeptOfScores);
  }
  int64_t kept_of_search(size_t s) const {
    if (in_.gpu || maps_states(s)) return 0;
    return share_of(captured_bytes(s) + search_bytes(s), kKeptOfSearches);
  }

  // Scores that a kernel does not keep to itself: where keys and values differ in width.
  int64_t score_bytes(size_t s) const {
    int64_t bytes = 0;
    const int64_t length = tokens(s) / std::max<int64_t>(1, in_.batches.rows);
    const int64_t scores = in_.batches.rows * length * length;
    for (const AttentionSite& site : spec(s).attentions) {
      int64_t of_site = in_.batches.padded ? scores * (1 + width_) : 0;
      if (site.key_dim != site.value_dim && !in_.gpu) {
        of_site = std::max(of_site, scores * site.kv_heads * (11 + 2 * width_));
      }
      bytes = std::max(bytes, of_site);
    }
    return bytes;
  }

  // What one batch needs on its way through a stage, beside its states.
  int64_t activation_bytes(size_t s) const {
    const StageSpec& stage = spec(s);
    const Widths wide = widths(s);
    const int64_t hidden = in_.hidden_size;
    const int64_t residual = 2 * hidden * width_;
    const int64_t norm = residual + hidden * (3 * 4 + width_);
    const int64_t attention = residual + (hidden + 2 * wide.attention) * width_;
    int64_t feed_forward = residual + (hidden + 2 * wide.feed_forward) * width_;
    if (stage.experts > 0) {
      feed_forward += (2 * hidden + 2 * wide.expert / kBusiestExpert) * width_ + 3 * hidden * 4;
    }
    const int64_t observed = in_.batches.padded ? wide.input * width_ : 0;
    const int64_t most = std::max({norm, attention, feed_forward});
    return tokens(s) * (most + observed) + score_bytes(s);
  }

  // Observers live until all batches are through.
  int64_t observer_bytes(size_t s) const {
    const int64_t numbers = in_.observe[s].mean_abs ? 2 : 1;
    return mine_ * widths(s).all_inputs * numbers * 4;
  }

  // Linears that read one tensor share it.
  int64_t captured_bytes(size_t s) const {
    if (!in_.observe[s].capture || s >= computed_stages()) return 0;
    int64_t channels = 0;
    int64_t of_experts = 0;
    const LinearSite* last = nullptr;
    for (const LinearSite& linear : spec(s).linears) {
      const bool shares = last != nullptr && last->fused_group >= 0 &&
                          last->fused_group == linear.fused_group && last->expert == linear.expert;
      last = &linear;
      if (!shares) (linear.expert < 0 ? channels : of_experts) += linear.in;
    }
    if (spec(s).experts > 0) of_experts = of_experts / spec(s).experts * kBusiestExpert;
    return mine_ * tokens(s) * (channels + of_experts) * width_;
  }

  int64_t search_bytes(size_t s) const {
    int64_t largest = 0;
    for (const TargetPlan* plan : in_.plans) {
      for (const AlgorithmSpec& spec_of_method : plan->recipe.algorithms) {
        for (size_t i = 0; i < spec(s).linears.size(); ++i) {
          const LinearFormat& format = plan->stages[s].linears[i];
          if (!algorithm_named(spec_of_method.method).works_on(format)) continue;
          const int64_t bytes = search_bytes_of(s, spec_of_method.method, spec(s).linears[i]);
          largest = std::max(largest, bytes);
        }
      }
    }
    return largest;
  }
  int64_t search_bytes_of(size_t s, const std::string& method, const LinearSite& linear) const {
    const int64_t share = linear.expert < 0 ? 1 : kBusiestExpert;
    const int64_t batch = tokens(s) / share;
    const int64_t weight = linear.out * linear.in;
    if (method.starts_with("awq") || method == "svdquant") {
      const int64_t outputs = mine_ * batch * linear.out * width_;
      const int64_t differences = batch * (linear.in * width_ + linear.out * (2 * width_ + 8));
      const int64_t decomposed = method == "svdquant" ? weight * 3 * 8 : 0;
      return outputs + in_flight() * differences + weight * (width_ + 4) + decomposed;
    }
    if (method == "gptq" || method == "local_hessian") {
      return linear.in * linear.in * 4 * 4 + batch * linear.in * 4 + weight * 8;
    }
    return weight * 8;
  }

  // One weight at a time: decoded, changed, packed; read back in pieces (sqnr.h).
  int64_t packing_bytes(size_t s) const {
    int64_t largest = 0;
    std::map<std::string, size_t> linear_of;
    for (size_t i = 0; i < spec(s).linears.size(); ++i) linear_of[spec(s).linears[i].weight] = i;
    for (const StoredTensor& tensor : (*in_.stages)[s]) {
      const int64_t elements = count_of(tensor.shape);
      const auto linear = linear_of.find(tensor.name);
      int64_t bytes = elements * size_of(tensor.dtype);
      for (const TargetPlan* plan : in_.plans) {
        if (linear == linear_of.end()) continue;
        const LinearFormat& format = plan->stages[s].linears[linear->second];
        if (!format.quantized()) continue;
        const bool copied = tensor.codec != nullptr || format.smoothing != Smoothing::kNone;
        const int64_t packed = elements * (1 + (copied ? size_of(in_.model_dtype) : 0));
        const int64_t piece = std::min(elements, in_.gpu ? kSqnrPieceOnGpu : kSqnrPieceOnHost);
        bytes = std::max(bytes, packed + piece * 3 * 4);
      }
      largest = std::max(largest, bytes);
    }
    return largest;
  }

  void add_forward(size_t s) {
    Moment moment = begin(s, "forward");
    moment.tensors("weights in the compute dtype", computed_weights(s));
    moment.tensors("activations", in_flight() * activation_bytes(s));
    moment.host("statistics", observer_bytes(s));
    moment.host("kept by the allocator", kept_of_activations(s));
    moment.tensors("captured inputs", captured_bytes(s));
    consider(moment);
  }
  void add_solve(size_t s) {
    Moment moment = begin(s, "solve");
    moment.tensors("captured inputs", captured_bytes(s));
    moment.tensors("search", search_bytes(s));
    moment.host("kept by the allocator", kept_of_search(s));
    consider(moment);
  }
  void add_pack(size_t s) {
    Moment moment = begin(s, "pack");
    moment.tensors("captured inputs", captured_bytes(s));
    moment.tensors("packing", packing_bytes(s));
    moment.tensors("write queue", std::min(in_.write_queue_bytes, bytes_of((*in_.stages)[s])));
    consider(moment);
  }

  void consider(const Moment& moment) {
    if (moment.host_bytes() > plan_.host_bytes) {
      plan_.host_bytes = moment.host_bytes();
      plan_.peak_stage = moment.stage();
      plan_.peak_phase = moment.phase();
      take(moment, &MemoryPart::host_bytes);
    }
    if (moment.device_bytes() > plan_.device_bytes) {
      plan_.device_bytes = moment.device_bytes();
      if (in_.gpu) {
        plan_.peak_stage = moment.stage();
        plan_.peak_phase = moment.phase();
      }
      take(moment, &MemoryPart::device_bytes);
    }
  }
  // The moment's parts of one kind of memory replace those that stood for it.
  void take(const Moment& moment, int64_t MemoryPart::*member) {
    for (MemoryPart& part : plan_.parts) part.*member = 0;
    for (const MemoryPart& part : moment.parts()) {
      if (part.*member == 0) continue;
      auto found = std::find_if(plan_.parts.begin(), plan_.parts.end(),
                                [&](const MemoryPart& one) { return one.name == part.name; });
      if (found == plan_.parts.end()) {
        plan_.parts.push_back({part.name, 0, 0});
        found = plan_.parts.end() - 1;
      }
      (*found).*member += part.*member;
    }
    std::erase_if(plan_.parts, [](const MemoryPart& part) {
      return part.host_bytes == 0 && part.device_bytes == 0;
    });
  }

  const MemoryInputs& in_;
  int64_t width_;
  int64_t mine_;
  std::vector<LoadStep> steps_;
  MemoryPlan plan_;
};

}  // namespace

BatchShape shape_of(const std::vector<Batch>& batches) {
  BatchShape shape;
  shape.batches = std::ssize(batches);
  for (const Batch& batch : batches) {
    shape.rows = std::max(shape.rows, batch.rows);
    shape.length = std::max(shape.length, batch.length);
    if (batch.encoder) shape.encoder_length = std::max(shape.encoder_length, batch.encoder->length);
    shape.padded = shape.padded || batch.padded();
  }
  return shape;
}

MemoryPlan predict_memory(const MemoryInputs& inputs) {
  return Predictor(inputs).run();
}

}  // namespace halftone
