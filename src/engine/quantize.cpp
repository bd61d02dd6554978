#include "engine/quantize.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/progress.h"
#include "dist/agreement.h"
#include "engine/device_memory.h"
#include "engine/stage_solver.h"
#include "engine/stage_times.h"
#include "engine/summary.h"
#include "engine/target_solver.h"
#include "engine/verify.h"
#include "export/staged_output.h"

namespace halftone {
namespace {

using Clock = std::chrono::steady_clock;

// Space for all outputs, asked before anything is written.
void check_free_space(const std::vector<Target>& targets, int64_t beside, const fs::path& folder) {
  int64_t needed = beside;
  for (const Target& target : targets) {
    for (const auto& file : target.hf.layout.files) needed += file.layout.file_bytes;
  }
  const int64_t free = free_bytes(folder);
  if (free < needed) {
    throw ResourceError(concat("'", folder.string(), "' has ", free,
                               " bytes free, but the output needs ", needed,
                               ": free some space or choose another --out"));
  }
}

int64_t sum_over_ranks(int64_t value, Communicator& ranks) {
  ranks.all_reduce(&value, 1, DType::kI64, ReduceOp::kSum);
  return value;
}

int64_t max_over_ranks(int64_t value, Communicator& ranks) {
  ranks.all_reduce(&value, 1, DType::kI64, ReduceOp::kMax);
  return value;
}

// Every rank's records.
LinearRecords gather_records(const LinearRecords& mine, Communicator& ranks) {
  LinearRecords all;
  for (const std::string& text : gather_texts(ranks, Json(mine).dump())) {
    const Json part = Json::parse(text);
    for (const auto& [name, record] : part.items()) all[name] = record;
  }
  return all;
}

int64_t elements_of(const StoredTensor& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
}

// The source's weights, tied ones once; what low bits stand for, not how they are packed.
int64_t elements_of(const SourceLayout& source) {
  std::map<std::string, int64_t> elements;
  for (const std::vector<StoredTensor>& stage : source.stages()) {
    for (const StoredTensor& tensor : stage) elements[tensor.name] = elements_of(tensor);
  }
  for (const StoredTensor& tensor : source.extra()) elements[tensor.name] = elements_of(tensor);
  int64_t sum = 0;
  for (const auto& [name, count] : elements) sum += count;
  return sum;
}

QuantizeResult::Output describe(const Target& target, const SourceLayout& source,
                                const LinearRecords& records) {
  QuantizeResult::Output output;
  output.format = target.plan.recipe.name;
  output.dir = target.out;
  output.bytes = target.hf.layout.total_bytes;
  output.bits_per_weight =
      8.0 * static_cast<double>(output.bytes) / static_cast<double>(elements_of(source));
  for (const auto& [name, record] : records)
    output.fallbacks += record.contains("fallback") ? 1 : 0;
  return output;
}

}  // namespace

bool needs_forward(const Model& model, const std::vector<Target>& targets) {
  std::vector<const TargetPlan*> plans;
  for (const Target& target : targets) plans.push_back(&target.plan);
  const auto observe = what_to_observe(model, plans, /*complete=*/false);
  return std::any_of(observe.begin(), observe.end(),
                     [](const ObserveOptions& stage) { return stage.any(); });
}

Target make_target(const SourceLayout& source, const Model& model, const Recipe& recipe,
                   const fs::path& out, int64_t max_shard_bytes) {
  Target target{plan_target(model, recipe), {}, {}, out};
  target.hf = plan_hf_export(source, model, target.plan, max_shard_bytes);
  target.config = make_quant_config(model, target.plan, source);
  return target;
}

// What may wait to be written: half of the largest stage, so that a slow disk does not make memory
// grow with the number of layers.
int64_t write_queue_bytes(const SourceLayout& source) {
  constexpr int64_t kSmallest = int64_t{4} << 20;
  constexpr int64_t kLargest = int64_t{256} << 20;
  int64_t largest = 0;
  for (const std::vector<StoredTensor>& stage : source.stages()) {
    largest = std::max(largest, bytes_of(stage));
  }
  return std::clamp(largest / 2, kSmallest, kLargest);
}

CalibrationOptions calibration_options(const Model& model, const std::vector<Target>& targets,
                                       const QuantizeOptions& options) {
  CalibrationOptions calibration;
  calibration.compute_dtype = options.compute_dtype;
  calibration.count_padding = options.count_padding;
  calibration.observed_experts = options.observed_experts;
  calibration.stage_limit = options.stage_limit;
  calibration.budget = options.budget;
  calibration.show_progress = options.show_progress;
  if (options.from_store != nullptr) {
    calibration.observe.assign(model.stages().size(), ObserveOptions::nothing());
    return calibration;
  }
  std::vector<const TargetPlan*> plans;
  for (const Target& target : targets) {
    plans.push_back(&target.plan);
    if (target.plan.recipe.propagate == Recipe::Propagate::kQuantized) {
      calibration.propagate_quantized = true;
    }
  }
  calibration.observe = what_to_observe(model, plans, /*complete=*/true);
  return calibration;
}

MemoryInputs memory_inputs(const SourceLayout& source, const Model& model,
                           const std::vector<Target>& targets, const BatchShape& batches,
                           const QuantizeOptions& options) {
  const CalibrationOptions calibration = calibration_options(model, targets, options);
  MemoryInputs inputs;
  inputs.specs = &model.stages();
  inputs.stages = &source.stages();
  for (const Target& target : targets) inputs.plans.push_back(&target.plan);
  inputs.observe = calibration.observe;
  inputs.propagate_quantized = calibration.propagate_quantized;
  inputs.model_dtype = source.dtype();
  inputs.compute_dtype = options.compute_dtype;
  inputs.hidden_size = model.hidden_size();
  inputs.batches = batches;
  inputs.write_queue_bytes = write_queue_bytes(source);
  inputs.stage_limit = options.stage_limit;
  return inputs;
}

namespace {

// One call of quantize().
class QuantizeJob {
 public:
  QuantizeJob(const SourceLayout& source, Model& model, const std::vector<Target>& targets,
              RunJournal* journal, const QuantizeOptions& options, const Cluster& cluster)
      : source_(source),
        model_(model),
        targets_(targets),
        journal_(journal),
        options_(options),
        cluster_(cluster),
        queue_(write_queue_bytes(source), cluster.trace),
        held_(options.residency == Residency::kResident),
        compressor_(make_compressor()),
        solver_(model, targets, solve_context(), options.from_store, compressor_.get()),
        staged_(options.out),
        records_(targets.size()) {
    writers_.reserve(targets.size());
    for (const Target& target : targets) {
      writers_.emplace_back(partial_of(target), target.hf.layout, queue_);
      packers_.emplace_back(target, writers_.back(), model, source.dtype(), options.numerics,
                            cluster);
    }
  }

  QuantizeResult run(const std::vector<Batch>& batches) {
    begin();
    CalibrationOptions calibration = calibration_options(model_, targets_, options_);
    if (options_.residency == Residency::kResident) calibration.held = &held_;
    if (options_.calibrate_on_compressed) observe_compressed(*compressor_, calibration);
    if (journal_ != nullptr) {
      calibration.resume = [&](size_t computed, const std::vector<int64_t>& mine) {
        return resume(computed, mine, !calibration.propagate_quantized);
      };
    }
    calibration.finished = [&](size_t stage, const BatchPass& pass, size_t computed) {
      finish_stage(stage, pass, computed);
    };
    const CalibrationTimes times =
        run_calibration(source_, model_, batches, calibration, cluster_,
                        [&](const CalibratedStage& seen) { return consume(seen); });
    finish(times);
    return std::move(result_);
  }

 private:
  // Where a target is assembled.
  fs::path partial_of(const Target& target) const {
    const fs::path folder = staged_.partial() / target.out.lexically_relative(options_.out);
    return folder.lexically_normal();
  }

  SolveContext solve_context() const {
    return {source_.dtype(), options_.compute_dtype, options_.numerics, cluster_,
            options_.expert_floor};
  }

  std::unique_ptr<Compressor> make_compressor() {
    if (options_.residency != Residency::kCompressed) return nullptr;
    return std::make_unique<Compressor>(model_, targets_.front().plan, solve_context(), held_);
  }

  // Whether what an interrupted run has written is all there. Rank 0's word.
  bool outputs_are_kept() const {
    if (journal_ == nullptr || !journal_->has_progress()) return false;
    int64_t kept = 1;
    if (cluster_.control.rank() == 0) {
      for (const HfWriter& writer : writers_) kept = kept != 0 && writer.has_files() ? 1 : 0;
      if (kept == 0) {
        log_warn("'", staged_.partial().string(),
                 "', where an interrupted run assembled its output,",
                 " is gone or damaged: the run begins anew");
      }
    }
    cluster_.control.broadcast(&kept, sizeof(kept), 0);
    return kept != 0;
  }

  void begin() {
    const bool resumed = outputs_are_kept();
    if (!resumed) {
      if (journal_ != nullptr) journal_->start_over();
      // A run that goes on has its space already.
      check_free_space(targets_, options_.space_beside, options_.out.parent_path());
    }
    staged_.begin(cluster_.control, resumed);
    for (HfWriter& writer : writers_) writer.begin(cluster_.control, resumed);
  }

  ResumePlan resume(size_t computed, const std::vector<int64_t>& mine, bool can_replay) {
    const bool resumed = journal_->has_progress();
    ResumePlan plan = journal_->plan(computed, can_replay, mine);
    for (size_t s = 0; s < plan.actions.size(); ++s) {
      if (plan.actions[s] != StageAction::kRun) add_records(journal_->records_of(s));
    }
    if (!resumed) return plan;
    const auto first = std::find(plan.actions.begin(), plan.actions.end(), StageAction::kRun);
    result_.resumed_from_stage = static_cast<size_t>(first - plan.actions.begin());
    if (cluster_.control.rank() == 0) {
      log_info("an interrupted run is resumed: ", result_.resumed_from_stage, " of ",
               plan.actions.size(), " stages are finished");
    }
    return plan;
  }

  std::optional<ServedStage> consume(const CalibratedStage& seen) {
    StatisticsStore* store = journal_ == nullptr ? nullptr : journal_->open_stage(seen.index);
    return solver_.run(seen, packers_, store);
  }

  // Per target; complete on rank 0.
  Json take_records() {
    Json records = Json::array();
    for (size_t t = 0; t < targets_.size(); ++t) {
      LinearRecords all = gather_records(packers_[t].take_records(), cluster_.control);
      for (const auto& [name, record] : solver_.stage_records(t)) all[name] = record;
      records.push_back(all);
    }
    return records;
  }

  void add_records(const Json& records) {
    for (size_t t = 0; t < records.size() && t < targets_.size(); ++t) {
      for (const auto& [name, record] : records[t].items()) records_[t][name] = record;
    }
  }

  void finish_stage(size_t stage, const BatchPass& pass, size_t computed) {
    const Json records = take_records();
    add_records(records);
    if (journal_ == nullptr) return;
    journal_->finish_stage(stage, records, pass, computed, [&] {
      for (HfWriter& writer : writers_) writer.make_durable();
    });
  }

  // What was written is opened again before it gets its name: every tensor accounted for, scales as
  // they must be. The weights' own bytes are not looked at.
  void verify(const Target& target) const {
    cluster_.world.activity().begin_step("verify");
    const fs::path folder = partial_of(target);
    const std::string what =
        concat("what was written to '", folder.string(), "' is not as it must be and stays there");
    VerifyOptions options;
    options.depth = CheckDepth::kScales;
    try {
      const Checkpoint written(folder);
      const VerifyReport report = verify_checkpoint(written, model_, &source_, options, cluster_);
      require_no_problems(report.findings, what);
    } catch (const ReadError&) {
      throw;
    } catch (const InputError& error) {  // of our own making
      throw VerificationError(concat(what, ": ", error.what()));
    }
  }

  void finish(const CalibrationTimes& times) {
    const auto start = Clock::now();
    Activity& activity = cluster_.world.activity();
    activity.begin_stage("finish");
    activity.begin_step("write");
    Communicator& ranks = cluster_.control;
    if (cluster_.trace != nullptr) cluster_.trace->set_stage(model_.stages().size());
    result_.phases["load"] = {times.load_seconds, sum_over_ranks(times.bytes_read, ranks)};
    result_.phases["forward"] = {times.forward_seconds, 0};
    result_.phases["pack"] = {times.consume_seconds, 0};
    for (size_t t = 0; t < targets_.size(); ++t) {
      packers_[t].copy_extra(source_);
      writers_[t].complete(ranks, source_.checkpoint(), targets_[t].config);
      verify(targets_[t]);
    }
    result_.phases["write"] = {queue_.seconds_writing(),
                               sum_over_ranks(queue_.bytes_written(), ranks)};
    if (journal_ != nullptr) {
      result_.phases["save"] = {journal_->seconds_saving(),
                                sum_over_ranks(journal_->bytes_saved(), ranks)};
    }
    result_.host_bytes = max_over_ranks(peak_host_bytes(), ranks);
    result_.residency = options_.residency;
    result_.weights_held_bytes = max_over_ranks(held_.bytes(), ranks);
    result_.device_bytes = max_over_ranks(peak_device_bytes(cluster_.device), ranks);
    activity.begin_step("digest");
    result_.predicted = options_.predicted;
    // The least of all ranks.
    result_.rows_per_call = -max_over_ranks(-times.rows_per_call, ranks);
    for (size_t t = 0; t < targets_.size(); ++t) {
      result_.outputs.push_back(describe(targets_[t], source_, records_[t]));
      result_.outputs[t].digest = writers_[t].digest(cluster_.world.node_of(), ranks);
    }
    result_.times = stage_times(model_, cluster_);
    result_.phases["finish"] = {seconds_since(start), 0};
    for (size_t t = 0; t < targets_.size(); ++t) {
      const Json summary = make_summary(targets_[t], result_, t, records_[t], options_.resolved);
      writers_[t].write_summary(ranks, summary.dump(2) + "\n");
    }
    if (journal_ != nullptr) journal_->complete(to_json(result_));
    staged_.publish(ranks, options_.overwrite);
    if (journal_ != nullptr) journal_->clear();
  }

  const SourceLayout& source_;
  Model& model_;
  const std::vector<Target>& targets_;
  RunJournal* journal_;
  const QuantizeOptions& options_;
  Cluster cluster_;
  std::vector<HfWriter> writers_;
  WriteQueue queue_;  // behind the files that it writes
  HeldWeights held_;
  std::unique_ptr<Compressor> compressor_;  // null: nothing is held compressed
  TargetSolver solver_;
  StagedOutput staged_;
  std::vector<StagePacker> packers_;
  std::vector<LinearRecords> records_;  // per target; complete on rank 0
  QuantizeResult result_;
};

}  // namespace

QuantizeResult quantize(const SourceLayout& source, Model& model,
                        const std::vector<Target>& targets, const std::vector<Batch>& batches,
                        RunJournal* journal, const QuantizeOptions& options,
                        const Cluster& cluster) {
  return QuantizeJob(source, model, targets, journal, options, cluster).run(batches);
}

}  // namespace halftone
