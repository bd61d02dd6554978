#pragma once

#include <set>

#include "calibrate/target_plan.h"
#include "export/finding.h"
#include "model/source_layout.h"

namespace halftone {

// A unified Hugging Face checkpoint by its configuration and headers alone.
struct HeaderCheck {
  Findings findings;
  // The format of every linear and cache as the configuration has it.
  std::vector<StagePlan> stages;
  bool library = false;  // another library's layout (library_target.h)
  // Tensors that are in the checkpoint but in no stage: of next-token layers, vision towers, ...
  std::vector<std::string> extra;
  // Linears, and tensors that are copied, which lack a tensor or hold one of another dtype or
  // shape: there is no use in reading them.
  std::set<std::string> unsound;
};

// Every tensor that the configuration promises is there in its dtype and shape, nothing else is,
// and the lists of unquantized modules say what is stored (formats-and-hf-export.md, 3.2 and 4).
// `source`: every tensor of the checkpoint that it was made from is accounted for; null: not known.
HeaderCheck check_headers(const Checkpoint& checkpoint, const Model& model,
                          const SourceLayout* source);

// hf_quant_config.json says what config.json says.
Findings check_configs(const Checkpoint& checkpoint);

}  // namespace halftone
