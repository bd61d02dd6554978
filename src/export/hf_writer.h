#pragma once

#include <map>
#include <string>
#include <vector>

#include "dist/communicator.h"
#include "export/hf_layout.h"
#include "export/quant_config.h"
#include "io/write_queue.h"

namespace halftone {

// Writes the files of a unified Hugging Face checkpoint into a folder that is not published yet
// (staged_output.h). Several ranks write disjoint parts of the same files; every rank makes one
// writer with the same plan and calls the functions that take a communicator together.
class HfWriter {
 public:
  // The queue is shared by all writers of this rank.
  HfWriter(fs::path folder, const HfLayout& layout, WriteQueue& queue);

  // Whether an interrupted run has made the files as they are planned. Local.
  bool has_files() const;
  // Makes the folder and the files in their full size: no space left shows here. `resumed`: they
  // are there, with what an interrupted run wrote.
  void begin(Communicator& communicator, bool resumed);
  // What this rank has queued so far is on the disk when this returns. Local.
  void make_durable();
  // Queues the bytes of a tensor, or of one of `count` equal parts of it; the size is the planned
  // one.
  void write(const std::string& name, HeldBytes bytes, int64_t index = 0, int64_t count = 1);
  // Waits for all writes of all ranks, adds the JSON files and the source's other files and makes
  // everything durable.
  void complete(Communicator& communicator, const Checkpoint& source, const QuantConfig& config);
  // The digest of the complete folder; the ranks share the reading. With several hosts (`node_of`
  // each rank) each file is read on two of them: VerificationError where they do not see the same.
  std::string digest(const std::vector<int>& node_of, Communicator& communicator) const;
  void write_summary(Communicator& communicator, const std::string& summary) const;

 private:
  void write_sidecars(const Checkpoint& source, const QuantConfig& config) const;

  fs::path folder_;
  const HfLayout& layout_;
  WriteQueue& queue_;
  std::vector<File> files_;
};

}  // namespace halftone
