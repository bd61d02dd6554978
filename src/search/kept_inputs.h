#pragma once

#include <map>
#include <vector>

#include "engine/batch_pass.h"
#include "engine/hidden_states.h"

namespace halftone {

// The inputs of every stage for the batches that scores are made of, on disk: each rank writes its
// batches, any number of ranks reads them back.
class KeptInputs {
 public:
  KeptInputs(fs::path folder, int64_t batches) : folder_(std::move(folder)), batches_(batches) {}

  // Collective; the folder is made by rank 0.
  void create(const Cluster& cluster) const;
  // Writes the states of this rank's batches below `batches`, durably, as inputs of the stage, and
  // says where they are. Every rank's list, on rank 0: to be kept and given back to place().
  Json write(size_t stage, const BatchPass& pass, const Cluster& cluster) const;
  // What write() said of a stage.
  void place(size_t stage, const Json& list);
  bool has(size_t stage) const { return stored_.count(stage) > 0; }
  Json places() const;             // of all stages
  void place_all(const Json& of);  // the same back
  // InputError where a file is damaged or missing.
  States read(size_t stage, int64_t batch, at::Device device) const;
  void remove() const;

  int64_t batches() const { return batches_; }

 private:
  fs::path folder_;
  int64_t batches_;
  std::map<size_t, std::map<int64_t, StoredBatch>> stored_;
};

}  // namespace halftone
