#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "dist/workspace.h"
#include "engine/batch_pass.h"
#include "engine/cluster.h"
#include "engine/hidden_states.h"
#include "engine/resume_plan.h"
#include "io/statistics_store.h"

namespace halftone {

struct JournalOptions {
  fs::path workspace;
  // What makes two runs the same, by name: a run goes on only where all of it is equal.
  Json identity = Json::object();
  std::vector<std::string> steps = {};       // what is counted instead of the model's stages
  std::map<std::string, std::string> texts;  // of the calibration store
  bool resume = true;                        // false: begin anew
  bool overwrite = false;                    // a workspace of another run is given up
  // The share of the run's time that saving may cost; 1: save after every stage.
  double overhead = 0.04;
};

// Keeps a run resumable. A stage's statistics, search results and records go into a file of their
// own (stages/0007.h5: a kill while HDF5 writes can damage only what is not finished yet). Now and
// then everything that was finished is made durable: output files, stage files, the hidden states
// of all batches; then the manifest that names them with lengths and checksums takes the place of
// the one before. At the end the stage files become the calibration store. All functions are
// collective unless they say otherwise.
class RunJournal {
 public:
  // Reads what an interrupted run left. A workspace of another run or user is a UsageError.
  RunJournal(JournalOptions options, const Model& model, const Cluster& cluster);

  // The result of an earlier run that was complete, but whose workspace is still there. Local.
  const std::optional<Json>& completed() const { return completed_; }
  // Some stages are finished already. Local.
  bool has_progress() const;
  // Forgets all progress.
  void start_over();

  // What is left to do. `batches`: those of this rank out of all.
  ResumePlan plan(size_t computed, bool can_replay, const std::vector<int64_t>& batches);
  // The records of a finished stage, per target. Rank 0's; null elsewhere. Local.
  Json records_of(size_t stage) const;

  // Where a stage's statistics go, on rank 0; null elsewhere. Local.
  StatisticsStore* open_stage(size_t stage);
  // The stage is computed, solved, and its output handed to the writers. Saves when it is time;
  // `make_durable` brings this rank's output to the disk. After a signal it saves and throws
  // StoppedError. `records` are rank 0's.
  void finish_stage(size_t stage, const Json& records, const BatchPass& pass, size_t computed,
                    const std::function<void()>& make_durable);

  // Whatever was saved is of no use to any run any more. Local.
  void forget() const { workspace_.remove_manifest(); }
  // Everything is written: makes the calibration store, then keeps `result` for completed().
  void complete(const Json& result);
  // The output has its name: removes everything but the calibration store and what completed() will
  // say until somebody forgets it.
  void clear();

  double seconds_saving() const { return spent_; }
  int64_t bytes_saved() const { return bytes_saved_; }  // of this rank

 private:
  struct StageFile {
    std::string name;
    int64_t bytes = 0;
    std::string sha256;
  };
  using Clock = std::chrono::steady_clock;

  void read_manifest(const Json& manifest);
  void refuse_other_run(const Json& manifest) const;
  bool is_intact(size_t stage, const StageFile& file) const;
  std::optional<std::vector<States>> load_saved(const std::vector<int64_t>& batches) const;
  bool is_due(const BatchPass& pass, bool states) const;
  void save(size_t stage, const BatchPass& pass, bool states);
  Json manifest() const;
  void remove_rubbish() const;
  bool leads() const { return cluster_.control.rank() == 0; }

  JournalOptions options_;
  Workspace workspace_;
  Cluster cluster_;
  std::vector<std::string> stages_;  // names
  std::optional<Json> completed_;
  std::vector<std::optional<StageFile>> finished_;  // per stage; of rank 0's files
  size_t saved_stage_ = 0;
  std::vector<StoredBatch> saved_;  // of all batches

  std::optional<StatisticsStore> open_;
  Clock::time_point start_ = Clock::now();
  double spent_ = 0.0;
  double last_ = -1.0;  // seconds of the last save
  int64_t bytes_saved_ = 0;
};

}  // namespace halftone
