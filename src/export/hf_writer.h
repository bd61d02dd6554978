#pragma once

#include <map>
#include <string>
#include <vector>

#include "dist/communicator.h"
#include "export/hf_layout.h"
#include "export/quant_config.h"
#include "io/write_queue.h"

namespace halftone {

// Assembles a unified Hugging Face checkpoint under a temporary name beside `out` and renames it
// when it is complete. Several ranks write disjoint parts of the same files; every rank makes one
// writer with the same plan and calls begin(), finish() together.
class HfWriter {
 public:
  // `out`'s parent must exist. The queue is shared by all writers of this rank.
  HfWriter(fs::path out, const HfLayout& layout, WriteQueue& queue);

  // Removes what an interrupted run left, makes the files in their full size: no space left shows
  // here.
  void begin(Communicator& communicator);
  // Queues a tensor's bytes; the size is the planned one.
  void write(const std::string& name, std::vector<char> bytes);
  // Waits for all writes of all ranks, adds the JSON files and the source's other files and makes
  // everything durable.
  void complete(Communicator& communicator, const Checkpoint& source, const QuantConfig& config);
  // The digest of the finished folder; the ranks share the reading.
  std::string digest(Communicator& communicator) const;
  // Adds summary.json and gives the folder its name. An existing `out` is replaced only with
  // `overwrite`.
  void publish(Communicator& communicator, const std::string& summary, bool overwrite);

  // The name under which the checkpoint is assembled.
  static fs::path partial_path(const fs::path& out);
  const fs::path& partial() const { return partial_; }

 private:
  void write_sidecars(const Checkpoint& source, const QuantConfig& config) const;

  fs::path out_;
  fs::path partial_;
  const HfLayout& layout_;
  WriteQueue& queue_;
  std::vector<File> files_;
};

}  // namespace halftone
