#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/options.h"
#include "dist/communicator.h"
#include "dist/world.h"
#include "engine/cluster.h"
#include "engine/residency.h"
#include "io/checkpoint.h"

namespace halftone {

// Options that the distributed commands share, and what they mean.

// --threads, --device, --dtype, --numerics, --residency, --low-memory, --seed, --watchdog-seconds,
// --check-collectives, --json
void add_run_options(Options& options);
// Communicators, threads and the device of this process, for the length of a run. Checks that all
// ranks are the same program with the same options, and starts the watchdog.
class RunSetup {
 public:
  RunSetup(const Options& options, const World& world);

  const Cluster& cluster() const { return *cluster_; }
  bool speaks() const { return world_.rank() == 0; }

 private:
  void make_loading(const Options& options, at::Device device);

  const World& world_;
  std::unique_ptr<Communicator> control_;
  std::unique_ptr<Communicator> nccl_;
  std::unique_ptr<Rendezvous> meeting_;  // of the three, null where Cluster's loading is
  std::unique_ptr<Communicator> loading_ranks_;
  std::unique_ptr<Loading> loading_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Trace> trace_;
  std::unique_ptr<Cluster> cluster_;
};

// --source-config: another folder's configuration and tokenizer.
void add_source_option(Options& options);
// The checkpoint that the option `name` names, with --source-config. Headers only.
Checkpoint open_source(const Options& options, const std::string& name = "model");

// UsageError unless all ranks see the same model in `checkpoint`'s folder.
void require_same_model(const Checkpoint& checkpoint, const Cluster& cluster);

// --family: read a model of another architecture as one of a known family.
void add_family_option(Options& options);
// --max-stage-bytes; auto: what the budget leaves for two stages and their decoded weights.
// Collective: all ranks take the same groups.
int64_t stage_limit(const Options& options, const Cluster& cluster);
// --residency and --low-memory; nullopt: auto.
std::optional<Residency> wanted_residency(const Options& options);
// --calibrate-on, which needs the weights compressed.
bool calibrates_on_compressed(const Options& options);
// The residency of a run that loads these steps so many times. Collective.
Residency settle_residency(const Options& options, const std::vector<LoadStep>& steps, int passes,
                           const RunSetup& setup);
// --dtype: the checkpoint's own with auto.
DType compute_dtype(const Options& options, DType of_checkpoint);
Numerics numerics(const Options& options);

// Prints one JSON object to standard output.
void print_json(const Json& json);

}  // namespace halftone
