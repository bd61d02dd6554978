#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/options.h"
#include "dist/communicator.h"
#include "dist/world.h"
#include "engine/cluster.h"

namespace halftone {

// Options that the distributed commands share, and what they mean.

// --threads, --device, --dtype, --numerics, --residency, --seed, --json
void add_run_options(Options& options);
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
  std::unique_ptr<Trace> trace_;
  std::unique_ptr<Cluster> cluster_;
};

// --family: read a model of another architecture as one of a known family.
void add_family_option(Options& options);
// --max-stage-bytes; auto: what leaves memory for two stages and their decoded weights.
int64_t stage_limit(const Options& options, const World& world);
// --dtype: the checkpoint's own with auto.
DType compute_dtype(const Options& options, DType of_checkpoint);
Numerics numerics(const Options& options);

// Prints one JSON object to standard output.
void print_json(const Json& json);

}  // namespace halftone
