#pragma once

#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "engine/cluster.h"
#include "model/model.h"

namespace halftone {

// The hidden states of all batches between two stages, on disk: each rank writes its batches into
// one safetensors file ("batch.<index>.x", "batch.<index>.encoder") and any number of ranks reads
// them back.

// Where a batch's states lie and what they must hold.
struct StoredBatch {
  int64_t batch = 0;
  std::string file;    // in the workspace
  std::string sha256;  // of the tensors' bytes
};

// Writes this rank's batches to `path`, durably, and says what is in it, `name` being the file's.
std::vector<StoredBatch> save_states(const fs::path& path, const std::string& name,
                                     const std::vector<int64_t>& batches,
                                     const std::vector<const States*>& states, ThreadPool& pool);

// The states of one batch on `device`. An InputError names the file when it is truncated or its
// bytes are not those that were written.
States load_states(const fs::path& path, const StoredBatch& stored, at::Device device);

Json to_json(const StoredBatch& stored);
StoredBatch stored_batch_of(const Json& json, const std::string& source);

}  // namespace halftone
