#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/options.h"
#include "dist/communicator.h"
#include "dist/world.h"
#include "engine/cluster.h"
#include "text/batches.h"

namespace halftone {

// Options that the distributed commands share, and what they mean.

// --threads, --device, --dtype, --numerics, --residency, --seed, --json
void add_run_options(Options& options);
// --calib ... --batch-size: the calibration data.
void add_calibration_options(Options& options);

// Communicators, threads and the device of this process, for the length of a run. Checks that all
// ranks were given the same options.
class RunSetup {
 public:
  RunSetup(const Options& options, const World& world);

  const Cluster& cluster() const { return *cluster_; }
  bool speaks() const { return world_.rank() == 0; }

 private:
  const World& world_;
  std::unique_ptr<Communicator> control_;
  std::unique_ptr<Communicator> nccl_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Cluster> cluster_;
};

// --dtype: the checkpoint's own with auto.
// --family: read a model of another architecture as one of a known family.
void add_family_option(Options& options);
// --max-stage-bytes; auto: what leaves memory for two stages and their decoded weights.
int64_t stage_limit(const Options& options, const World& world);
DType compute_dtype(const Options& options, DType of_checkpoint);
Numerics numerics(const Options& options);

// A source of samples: files, or an embedded text when there are none.
struct DataRequest {
  std::vector<std::string> files;
  std::string embedded;  // "text/calib_selfwritten.jsonl"
  std::string option;    // "--calib", for messages
  DatasetOptions options;
};
struct LoadedData {
  Dataset dataset;
  TokenId pad_id = 0;
};
// Reads and tokenizes; a sample longer than `max_positions` is an InputError naming it.
LoadedData load_data(const DataRequest& request, const fs::path& model, int64_t vocabulary,
                     int64_t max_positions);
inline constexpr const char* kCalibrationText = "text/calib_selfwritten.jsonl";
inline constexpr const char* kEvaluationText = "text/eval_selfwritten.jsonl";
// What --NAME, --NAME-samples, --NAME-length and --text-field ask for.
DataRequest data_request(const Options& options, const std::string& name, const char* embedded);

// --batch-size; auto depends on the data alone, so that every number of ranks makes the same
// batches.
int64_t batch_size(const Options& options, const Dataset& dataset);

// Prints one JSON object to standard output.
void print_json(const Json& json);

}  // namespace halftone
