#pragma once

#include <map>
#include <optional>
#include <string>

#include "engine/cluster.h"
#include "export/check_headers.h"

namespace halftone {

struct WeightCheck {
  Findings findings;
  // SQNR in dB of each quantized linear against the source; nullopt: exact, or all zero.
  std::map<std::string, std::optional<double>> sqnr_db;
  int64_t bytes_read = 0;  // of the checkpoint, by all ranks
};

enum class CheckDepth : uint8_t {
  kScales,  // F32 scales alone
  kWhole,   // every byte
};

// What the tensors of a unified checkpoint hold: scales are finite and more than zero, those that
// engines merge are equal, no value is NaN or infinite. `source` (null: not known): what is copied
// is the same, and each linear stands for its weight. `headers`: check_headers() of the same
// checkpoint; what it found unsound is not read. Layers and experts are dealt to the ranks and
// threads; what comes back is complete and the same on every rank. Collective.
WeightCheck check_weights(const Checkpoint& checkpoint, const Model& model,
                          const HeaderCheck& headers, const SourceLayout* source, CheckDepth depth,
                          const Cluster& cluster);

}  // namespace halftone
